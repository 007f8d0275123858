// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: 8 bytes little-endian length N, then N bytes of JSON,
//   {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
// Accepted: exactly these fields; tensors that cover the data without hole, overlap or rest; N up
// to 100,000,000; white space around the object; rank 0; empty tensors; fields in any order.
// Refused though the format's own reader takes it: a key given twice, unknown fields, null
// metadata. Errors: json utf8 duplicate_key schema dtype overflow sub_byte size_mismatch offsets
// truncated coverage header_too_large not_this_format; syntax before content, then tensors in
// header order. Memory: at most 16 times the header, whatever it says. Source: safetensors README,
// "Format".
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/io/file_dtype.hpp"
#include "deepseek/io/json_text.hpp"
#include "deepseek/io/safetensors_events.hpp"

namespace deepseek {

inline constexpr std::uint64_t safetensors_longest_header = 100'000'000;

// A header that passed every check.
class safetensors_header {
 public:
  // `text` is the JSON, `data_bytes` what follows it in the file, `what` names the file.
  safetensors_header(std::string_view text, std::uint64_t data_bytes, std::string_view what) {
    check_json_text(text, what);
    detail::header_events events(what);
    nlohmann::json::sax_parse(text, &events);
    events.check(text);
    metadata_ = events.take_metadata();
    tensors_ = events.take_entries();
    check_names(what);
    for (const auto& entry : tensors_) check_size(entry, what);
    order_by_offset();
    check_cover(data_bytes, what);
    by_name_ = sorted_by_name();
  }

  const file_metadata& metadata() const { return metadata_; }

  // In the order of their bytes in the file; empty tensors at one place as the header lists them.
  const std::vector<tensor_entry>& tensors() const { return tensors_; }

  const tensor_entry* find(std::string_view name) const {
    const auto at = std::ranges::lower_bound(by_name_, name, {}, name_of{tensors_});
    return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
  }

 private:
  // Projects a position onto its tensor's name.
  struct name_of {
    const std::vector<tensor_entry>& tensors;
    std::string_view operator()(std::size_t i) const { return tensors[i].name; }
  };

  std::vector<std::size_t> sorted_by_name() const {
    std::vector<std::size_t> order(tensors_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, name_of{tensors_});
    return order;
  }

  void check_names(std::string_view what) const {
    const auto order = sorted_by_name();
    const auto twice = std::ranges::adjacent_find(order, {}, name_of{tensors_});
    require(twice == order.end(), error_code::duplicate_key, what, ": tensor ",
            deepseek::escaped(twice == order.end() ? "" : tensors_[*twice].name),
            " is given twice; keep one");
  }

  static void check_size(const tensor_entry& entry, std::string_view what) {
    require(entry.begin <= entry.end, error_code::offsets, what, ": tensor ",
            deepseek::escaped(entry.name), ": begins at ", entry.begin, ", after its end ",
            entry.end, "; swap the offsets");
    const std::uint64_t wanted = byte_count(entry.name, entry.dtype, entry.shape);
    require(wanted == entry.bytes(), error_code::size_mismatch, what, ": tensor ",
            deepseek::escaped(entry.name), ": shape ", file_shape_text(entry.shape), " of ",
            to_string(entry.dtype), " is ", wanted, " bytes but its offsets hold ", entry.bytes(),
            "; make them agree");
  }

  void order_by_offset() {
    std::ranges::stable_sort(
        tensors_, {}, [](const tensor_entry& entry) { return std::pair(entry.begin, entry.end); });
  }

  void check_cover(std::uint64_t data_bytes, std::string_view what) const {
    std::uint64_t covered = 0;
    for (const auto& entry : tensors_) {
      require(entry.begin == covered, error_code::offsets, what, ": tensor ",
              deepseek::escaped(entry.name), ": begins at ", entry.begin,
              " but the tensors before it end at ", covered, "; leave no hole and no overlap");
      covered = entry.end;
    }
    require(covered <= data_bytes, error_code::truncated, what, ": holds ", data_bytes,
            " bytes of data but the header describes ", covered, "; the file is cut short");
    require(covered == data_bytes, error_code::coverage, what, ": holds ", data_bytes,
            " bytes of data but the header describes ", covered, "; remove what no tensor names");
  }

  file_metadata metadata_;
  std::vector<tensor_entry> tensors_;
  std::vector<std::size_t> by_name_;
};

namespace detail {

// The name of a format whose files begin like that, nothing if none is known to.
inline std::optional<std::string_view> foreign_format(std::string_view first) {
  constexpr std::pair<std::string_view, std::string_view> starts[] = {
      {"GGUF", "a GGUF file"},           {"PK\x03\x04", "a zip archive, perhaps of PyTorch"},
      {"\x80\x02", "a Python pickle"},   {"\x80\x04", "a Python pickle"},
      {"\x89HDF", "an HDF5 file"},       {"\x93NUMPY", "a NumPy file"},
      {"version ", "a Git LFS pointer"}, {"\x1f\x8b", "a gzip file"}};
  for (const auto& [start, name] : starts) {
    if (first.starts_with(start)) return name;
  }
  return std::nullopt;
}

}  // namespace detail

// Bytes of JSON after the first 8 bytes of a file, checked before anything of that size is
// allocated.
inline std::size_t safetensors_header_length(std::span<const std::byte> first,
                                             std::uint64_t file_bytes, std::string_view what) {
  require(first.size() >= 8, error_code::truncated, what, ": file has ", file_bytes,
          " bytes; a safetensors file has at least 8");
  std::uint64_t length = 0;
  std::string letters;
  for (unsigned i = 0; i < 8; ++i) {
    length |= std::to_integer<std::uint64_t>(first[i]) << (8 * i);
    letters += static_cast<char>(first[i]);
  }
  if (length > safetensors_longest_header) {
    const auto other = detail::foreign_format(letters);
    require(!other, error_code::not_this_format, what, ": looks like ", other.value_or(""),
            "; convert it to safetensors");
    fail(error_code::header_too_large, what, ": header of ", length, " bytes, at most ",
         safetensors_longest_header, " are read; is this a safetensors file?");
  }
  require(length <= file_bytes - 8, error_code::truncated, what, ": file has ", file_bytes,
          " bytes, its header alone needs ", length, " after the first 8; the file is cut short");
  return static_cast<std::size_t>(length);
}

}  // namespace deepseek
