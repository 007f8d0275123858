// SPDX-License-Identifier: Apache-2.0
// save_checkpoint(folder, parameters): a checkpoint folder of shards and an index, in our names or
// those of Hugging Face; stacked experts as one tensor each. No copy of a weight is made.
// A save that is killed anywhere leaves the checkpoint that was there or the new one: shards get
// names that no other save uses (model-<save id>-00001-of-00003.safetensors), each appears whole
// (atomic_file), the index comes last and alone says which files count; then those of the save
// before are removed. config.json is the caller's.
// Errors: invalid_argument (shard_bytes), io (the folder), save_error and those of
// write_safetensors. A failed save removes its shards; those of a killed one go with the next save.
// One save at a time in a folder.
#pragma once

#include <cstdio>

#include "deepseek/io/load_checkpoint.hpp"

namespace deepseek {

enum class tensor_names { ours, hugging_face };

struct save_options {
  tensor_names names = tensor_names::ours;
  std::uint64_t shard_bytes = 5'000'000'000;  // a tensor larger than that is a shard of its own
};

namespace detail {

template <class T>
tensor_source source_of(const std::string& name, const T* data,
                        const std::vector<std::int64_t>& shape) {
  const std::uint64_t bytes = byte_count(name, file_dtype_of<T>(), shape);
  return {name,
          file_dtype_of<T>(),
          shape,
          {reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(bytes)}};
}

template <class P>
std::vector<tensor_source> sources_of(const P& p, tensor_names names) {
  std::vector<tensor_source> sources;
  const auto put = [&](const std::string& path, const auto* data, const auto& shape) {
    sources.push_back(
        source_of(names == tensor_names::ours ? path : hugging_face_name(path), data, shape));
  };
  visit([&](const tensor_name& at, const auto& t) { for_each_part(at.path, t, put); }, p);
  return sources;
}

// In order, as many to a shard as fit; at least one.
inline std::vector<std::vector<tensor_source>> into_shards(std::vector<tensor_source> sources,
                                                           std::uint64_t shard_bytes) {
  std::vector<std::vector<tensor_source>> shards(1);
  std::uint64_t filled = 0;
  for (auto& source : sources) {
    if (!shards.back().empty() &&
        source.bytes.size() > shard_bytes - std::min(filled, shard_bytes)) {
      shards.emplace_back();
      filled = 0;
    }
    filled += source.bytes.size();
    shards.back().push_back(std::move(source));
  }
  return shards;
}

inline std::string shard_name(const std::string& save_id, std::size_t i, std::size_t count) {
  char numbers[48];
  std::snprintf(numbers, sizeof numbers, "-%05zu-of-%05zu.safetensors", i + 1, count);
  return "model-" + save_id + numbers;
}

// A name that shard_name gives: what a killed save may have left.
inline bool is_shard_name(std::string_view name) {
  constexpr std::string_view form = "model-################-#####-of-#####.safetensors";
  const auto fits = [](char c, char f) {
    return f == '#' ? (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') : c == f;
  };
  return name.size() == form.size() && std::equal(name.begin(), name.end(), form.begin(), fits);
}

// Files of a folder's present checkpoint and of killed saves, to be removed once another is in
// place.
inline std::set<std::string> files_to_replace(const std::filesystem::path& folder) {
  std::set<std::string> names;
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(folder, ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    const std::string name = at->path().filename().string();
    if (is_shard_name(name)) names.insert(name);
  }
  if (std::filesystem::exists(folder / checkpoint_index_name, ignored)) {
    for (const auto& [tensor, shard] : read_weight_map(folder / checkpoint_index_name)) {
      names.insert(shard);
    }
  } else if (std::filesystem::exists(folder / single_checkpoint_name, ignored)) {
    names.insert(std::string(single_checkpoint_name));
  }
  return names;
}

inline void remove_files(const std::filesystem::path& folder, const std::set<std::string>& names) {
  std::error_code ignored;
  for (const auto& name : names) std::filesystem::remove(folder / name, ignored);
}

// Removes the shards of a save that does not come to its end.
class shards_until_committed {
 public:
  explicit shards_until_committed(const std::filesystem::path& folder) : folder_(folder) {}
  shards_until_committed(const shards_until_committed&) = delete;
  shards_until_committed& operator=(const shards_until_committed&) = delete;
  ~shards_until_committed() { remove_files(folder_, names_); }
  void add(const std::string& name) { names_.insert(name); }
  void commit() { names_.clear(); }

 private:
  std::filesystem::path folder_;
  std::set<std::string> names_;
};

}  // namespace detail

template <class P>
void save_checkpoint(const std::filesystem::path& folder, const P& parameters,
                     const save_options& options = {}) {
  require(options.shard_bytes > 0, error_code::invalid_argument,
          "save_checkpoint: shard_bytes is 0; write how large a file may become");
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  require(!problem, error_code::io, "folder ", deepseek::escaped(folder.string()),
          ": cannot be made (", problem.message(), "); check the path and the permissions");
  const auto shards =
      detail::into_shards(detail::sources_of(parameters, options.names), options.shard_bytes);
  const auto replaced = detail::files_to_replace(folder);
  const std::string save_id = detail::random_suffix();
  std::map<std::string, std::string> weight_map;
  std::uint64_t total = 0;
  detail::shards_until_committed written(folder);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = detail::shard_name(save_id, i, shards.size());
    written.add(name);
    write_safetensors(folder / name, {{"format", "pt"}}, shards[i]);
    for (const auto& source : shards[i]) {
      weight_map[source.name] = name;
      total += source.bytes.size();
    }
  }
  const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  try {
    atomic_file file(folder / checkpoint_index_name);
    file.write(index.dump(2));
    file.commit();
  } catch (const save_error& problem_at_end) {
    // Either index may be there after a power loss: both checkpoints stay.
    if (problem_at_end.outcome() == save_outcome::durability_uncertain) written.commit();
    throw;
  }
  written.commit();
  detail::remove_files(folder, replaced);
}

}  // namespace deepseek
