// SPDX-License-Identifier: Apache-2.0
// A safetensors file, opened and checked: its header is in memory, its data is read when asked for.
// Shapes: as the file says, C order, little-endian. Every read is positioned: one object serves
// many threads. Values are not looked at: NaN payloads and infinities come back bit for bit, and
// data that starts at any byte is fine, since bytes are copied and never cast in place. Errors:
// those of safetensors_header; io (cannot open or read); truncated (the file shrank); size_mismatch
// and index_range (a buffer or a part that does not fit the tensor).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/io/file.hpp"
#include "deepseek/io/safetensors_header.hpp"

namespace deepseek {

class safetensors_file {
 public:
  explicit safetensors_file(const std::filesystem::path& path)
      : file_(path), data_begin_(8 + header_bytes()), header_(read_header()) {}

  const file_metadata& metadata() const { return header_.metadata(); }
  const std::vector<tensor_entry>& tensors() const { return header_.tensors(); }  // in file order
  const tensor_entry* find(std::string_view name) const { return header_.find(name); }
  const std::string& name() const { return file_.name(); }  // quoted path, for messages

  const tensor_entry& at(std::string_view name) const {
    const tensor_entry* entry = find(name);
    require(entry != nullptr, error_code::missing_tensor, "file ", file_.name(), ": has no tensor ",
            deepseek::escaped(name), " among its ", tensors().size(), "; check the name");
    return *entry;
  }

  // The whole tensor.
  void read(const tensor_entry& entry, std::span<std::byte> out) const {
    require(out.size() == entry.bytes(), error_code::size_mismatch, "tensor ",
            deepseek::escaped(entry.name), ": has ", entry.bytes(), " bytes, the buffer ",
            out.size(), "; pass one of that size");
    read_part(entry, 0, out);
  }

  // out.size() bytes of the tensor, from byte `from` of it on.
  void read_part(const tensor_entry& entry, std::uint64_t from, std::span<std::byte> out) const {
    require(from <= entry.bytes() && out.size() <= entry.bytes() - from, error_code::index_range,
            "tensor ", deepseek::escaped(entry.name), ": has ", entry.bytes(), " bytes, wanted ",
            out.size(), " from byte ", from, "; stay inside");
    require(entry.end <= file_.size() - data_begin_, error_code::index_range, "tensor ",
            deepseek::escaped(entry.name), ": ends at ", entry.end, " of ",
            file_.size() - data_begin_, " bytes of data; pass an entry of this file");
    file_.read(data_begin_ + entry.begin + from, out);
  }

 private:
  std::string what() const { return "file " + file_.name(); }

  std::size_t header_bytes() const {
    std::array<std::byte, 8> first{};
    const std::size_t there = file_.size() < 8 ? static_cast<std::size_t>(file_.size()) : 8;
    file_.read(0, std::span(first).first(there));
    return safetensors_header_length(std::span(first).first(there), file_.size(), what());
  }

  safetensors_header read_header() const {
    std::string text(static_cast<std::size_t>(data_begin_ - 8), '\0');
    file_.read(8, std::as_writable_bytes(std::span(text)));
    return {text, file_.size() - data_begin_, what()};
  }

  input_file file_;
  std::uint64_t data_begin_;
  safetensors_header header_;
};

}  // namespace deepseek
