// SPDX-License-Identifier: Apache-2.0
// A checkpoint folder as one set of tensors: those of all its safetensors files, found by our names
// whichever names the files use (checkpoint_names.hpp), and its config.json, if there is one.
// A weight and its scale may lie in different files. Nothing but headers is in memory.
// Errors: those of open_checkpoint and config_of_file; duplicate_key (two tensors of one name, in
// two files or in two spellings).
#pragma once

#include "deepseek/io/checkpoint_config.hpp"
#include "deepseek/io/checkpoint_files.hpp"
#include "deepseek/io/checkpoint_names.hpp"

#include <functional>
#include <optional>

namespace deepseek {

inline constexpr std::string_view checkpoint_config_name = "config.json";

struct stored_tensor {
  const safetensors_file* file = nullptr;
  const tensor_entry* entry = nullptr;
};

class checkpoint_directory {
 public:
  explicit checkpoint_directory(const std::filesystem::path& folder)
      : folder_(folder), files_(open_checkpoint(folder)) {
    std::error_code ignored;
    const auto path = folder / checkpoint_config_name;
    if (std::filesystem::exists(path, ignored)) config_ = read_checkpoint_config(path);
    for (const auto& file : files_) {
      for (const auto& entry : file.tensors()) add(file, entry);
    }
  }
  checkpoint_directory(checkpoint_directory&&) = default;
  checkpoint_directory& operator=(checkpoint_directory&&) = default;

  std::string name() const { return deepseek::escaped(folder_.string()); }  // for messages
  const std::optional<checkpoint_config>& config() const { return config_; }

  // By our names; null if there is none.
  const stored_tensor* find(std::string_view path) const {
    const auto at = tensors_.find(path);
    return at == tensors_.end() ? nullptr : &at->second;
  }
  const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }

 private:
  std::string path_of(const std::string& name) const {
    const std::string path = our_name(name);
    return config_ ? mtp_path(path, config_->num_hidden_layers, config_->num_nextn_predict_layers)
                   : path;
  }
  void add(const safetensors_file& file, const tensor_entry& entry) {
    const auto [at, added] =
        tensors_.try_emplace(path_of(entry.name), stored_tensor{&file, &entry});
    require(added, error_code::duplicate_key, "checkpoint ", name(), ": tensor ",
            deepseek::escaped(entry.name), " of ", file.name(), " is also ",
            deepseek::escaped(at->second.entry->name), " of ", at->second.file->name(),
            "; keep one of them");
  }

  std::filesystem::path folder_;
  std::vector<safetensors_file> files_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::optional<checkpoint_config> config_;
};

}  // namespace deepseek
