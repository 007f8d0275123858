// SPDX-License-Identifier: Apache-2.0
// Writes a safetensors file whole or not at all (atomic_file). The same arguments give the same
// bytes: metadata sorted by key; tensors with wider elements first, otherwise in the order given,
// so that each begins at a multiple of its element size; the header padded with spaces so that the
// data begins at a multiple of 8. Errors, all found before a file is touched: size_mismatch,
// duplicate_key, invalid_argument (reserved name, negative extent), utf8, overflow, sub_byte,
// header_too_large; then save_error.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/io/atomic_file.hpp"
#include "deepseek/io/safetensors_header.hpp"

namespace deepseek {

// One tensor to be written; the bytes stay the caller's.
struct tensor_source {
  std::string name;
  file_dtype dtype{};
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

namespace detail {

inline void check_sources(std::span<const tensor_source> tensors) {
  std::set<std::string_view> names;
  for (const auto& tensor : tensors) {
    require(tensor.name != safetensors_metadata_key, error_code::invalid_argument,
            "write_safetensors: a tensor is named __metadata__, which the format keeps for itself; "
            "rename it");
    require(first_invalid_utf8(tensor.name) == tensor.name.size(), error_code::utf8,
            "write_safetensors: the name ", deepseek::escaped(tensor.name),
            " is not UTF-8; rename it");
    require(names.insert(tensor.name).second, error_code::duplicate_key,
            "write_safetensors: two tensors are named ", deepseek::escaped(tensor.name),
            "; rename one");
    require(tensor.shape.size() <= safetensors_highest_rank, error_code::limit,
            "write_safetensors: tensor ", deepseek::escaped(tensor.name), " has ",
            tensor.shape.size(), " extents, at most ", safetensors_highest_rank,
            " can be read again; merge some");
    const std::uint64_t wanted = byte_count(tensor.name, tensor.dtype, tensor.shape);
    require(wanted == tensor.bytes.size(), error_code::size_mismatch, "write_safetensors: tensor ",
            deepseek::escaped(tensor.name), ": shape ", file_shape_text(tensor.shape), " of ",
            to_string(tensor.dtype), " is ", wanted, " bytes but ", tensor.bytes.size(),
            " are given; make them agree");
  }
}

inline void check_header_size(std::uint64_t bytes) {
  require(bytes <= safetensors_longest_header, error_code::header_too_large,
          "write_safetensors: the header needs ", bytes, " bytes or more, at most ",
          safetensors_longest_header, " can be read again; split the file");
}

inline void check_metadata(const file_metadata& metadata) {
  std::uint64_t bytes = 0;
  for (const auto& [key, text] : metadata) bytes += key.size() + text.size();
  check_header_size(bytes);
  for (const auto& [key, text] : metadata) {
    const bool valid =
        first_invalid_utf8(key) == key.size() && first_invalid_utf8(text) == text.size();
    require(valid, error_code::utf8, "write_safetensors: metadata ", deepseek::escaped(key),
            " is not UTF-8; encode it");
  }
}

// Wider elements first, otherwise as given.
inline std::vector<const tensor_source*> by_width(std::span<const tensor_source> tensors) {
  std::vector<const tensor_source*> order;
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [](const tensor_source* t) { return bits_of(t->dtype); });
  return order;
}

// The 8 bytes of the length and the padded JSON.
inline std::string header_text(const file_metadata& metadata,
                               std::span<const tensor_source* const> tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(safetensors_metadata_key)] = metadata;
  std::string json = header.dump();
  json.pop_back();  // entries are appended: looking each name up would cost the square of their
                    // number
  std::uint64_t begin = 0;
  for (const tensor_source* tensor : tensors) {
    const std::uint64_t end = begin + tensor->bytes.size();
    const nlohmann::ordered_json entry{{"dtype", to_string(tensor->dtype)},
                                       {"shape", tensor->shape},
                                       {"data_offsets", {begin, end}}};
    (json += json.size() > 1 ? "," : "") += nlohmann::json(tensor->name).dump();
    (json += ":") += entry.dump();
    begin = end;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  check_header_size(json.size());
  std::string length;
  for (unsigned i = 0; i < 8; ++i) length += static_cast<char>(json.size() >> (8 * i) & 0xff);
  return length + json;
}

}  // namespace detail

inline void write_safetensors(const std::filesystem::path& path, const file_metadata& metadata,
                              std::span<const tensor_source> tensors) {
  detail::check_sources(tensors);
  detail::check_metadata(metadata);
  const auto order = detail::by_width(tensors);
  const std::string header = detail::header_text(metadata, order);
  atomic_file file(path);
  file.write(header);
  for (const tensor_source* tensor : order) file.write(tensor->bytes);
  file.commit();
}

}  // namespace deepseek
