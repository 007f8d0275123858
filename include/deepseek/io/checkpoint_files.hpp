// SPDX-License-Identifier: Apache-2.0
// The safetensors files of a checkpoint folder, opened and checked against one another.
// With model.safetensors.index.json: the shards it names, sorted by name, and each tensor must be
// in the shard that its weight_map says, and nowhere else. Without: model.safetensors alone, if it
// is there, else every *.safetensors, sorted by name. Errors: io (no file there, a shard is
// absent), schema (weight_map), missing_tensor and unexpected_tensor (up to 20 names), limit (index
// above 100 MB), and those of safetensors_file. Source: the Hugging Face layout of sharded
// checkpoints.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/io/file.hpp"
#include "deepseek/io/json_text.hpp"
#include "deepseek/io/safetensors.hpp"

namespace deepseek {

inline constexpr std::string_view checkpoint_index_name = "model.safetensors.index.json";
inline constexpr std::string_view single_checkpoint_name = "model.safetensors";

// Names for a message, at most 20: "a", "b" and 3 more.
inline std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t shown = 20;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < shown; ++i) {
    (text += i == 0 ? "" : ", ") += deepseek::escaped(names[i]);
  }
  if (names.size() > shown) (text += " and ") += std::to_string(names.size() - shown) + " more";
  return text;
}

namespace detail {

using weight_map = std::map<std::string, std::string>;  // tensor to shard

inline weight_map parse_weight_map(std::string_view text, const std::string& what) {
  const nlohmann::json document = parse_json(text, what);
  require(
      document.is_object() && document.contains("weight_map") && document["weight_map"].is_object(),
      error_code::schema, what, ": has no object weight_map; write {weight_map: {tensor: file}}");
  weight_map map;
  for (const auto& [tensor, shard] : document["weight_map"].items()) {
    require(shard.is_string(), error_code::schema, what, ": weight_map gives ",
            deepseek::escaped(tensor), " no text; name its file");
    const auto& name = shard.get_ref<const std::string&>();
    require(!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                name.find('\0') == std::string::npos,
            error_code::schema, what, ": tensor ", deepseek::escaped(tensor), " is in ",
            deepseek::escaped(name), ", which is no plain file name; shards lie beside the index");
    map[tensor] = name;
  }
  return map;
}

inline weight_map read_weight_map(const std::filesystem::path& path) {
  return parse_weight_map(read_text(path, 100'000'000),
                          "index " + deepseek::escaped(path.string()));
}

inline std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code problem;
  for (std::filesystem::directory_iterator at(folder, problem), end; !problem && at != end;
       at.increment(problem)) {
    if (at->path().extension() == ".safetensors") names.push_back(at->path().filename().string());
  }
  require(!problem, error_code::io, "folder ", deepseek::escaped(folder.string()),
          ": cannot be listed (", problem.message(), "); check the path and the permissions");
  require(!names.empty(), error_code::io, "folder ", deepseek::escaped(folder.string()),
          ": holds no *.safetensors file; name a checkpoint folder");
  std::ranges::sort(names);
  return names;
}

inline void check_against(const weight_map& map, const safetensors_file& file,
                          const std::string& shard) {
  std::vector<std::string> missing, unexpected;
  for (const auto& [tensor, home] : map) {
    if (home == shard && file.find(tensor) == nullptr) missing.push_back(tensor);
  }
  for (const auto& entry : file.tensors()) {
    const auto at = map.find(entry.name);
    if (at == map.end() || at->second != shard) unexpected.push_back(entry.name);
  }
  require(missing.empty(), error_code::missing_tensor, "file ", file.name(), ": has no ",
          listed(missing), ", which the index says are here; fetch the files again");
  require(unexpected.empty(), error_code::unexpected_tensor, "file ", file.name(), ": has ",
          listed(unexpected), ", which the index does not say are here; fetch the files again");
}

}  // namespace detail

inline std::vector<safetensors_file> open_checkpoint(const std::filesystem::path& folder) {
  const auto index_path = folder / checkpoint_index_name;
  std::error_code ignored;
  const bool indexed = std::filesystem::exists(index_path, ignored);
  const auto map = indexed ? detail::read_weight_map(index_path) : detail::weight_map();
  std::vector<std::string> names;
  if (indexed) {
    for (const auto& [tensor, shard] : map) names.push_back(shard);
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
  } else if (std::filesystem::exists(folder / single_checkpoint_name, ignored)) {
    names = {std::string(single_checkpoint_name)};
  } else {
    names = detail::files_in(folder);
  }
  std::vector<safetensors_file> files;
  for (const auto& name : names) {
    files.emplace_back(folder / name);
    if (indexed) detail::check_against(map, files.back(), name);
  }
  return files;
}

}  // namespace deepseek
