// SPDX-License-Identifier: Apache-2.0
// Safetensors files put together by hand, apart from the library's writer, so that any defect can
// be written down as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace safetensors_bytes {

inline std::string little_endian(std::uint64_t n) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((n >> (8 * i)) & 0xff);
  return bytes;
}

// A file of this header and `data_bytes` bytes 0, 1, 2, ...
inline std::string file_of(std::string_view header, std::size_t data_bytes) {
  std::string bytes = little_endian(header.size()).append(header);
  for (std::size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i & 0xff);
  return bytes;
}

// "name":{"dtype":"type","shape":shape,"data_offsets":offsets}
inline std::string entry(std::string_view name, std::string_view type, std::string_view shape,
                         std::string_view offsets) {
  std::string text = "\"";
  text.append(name).append(R"(":{"dtype":")").append(type).append(R"(","shape":)").append(shape);
  return text.append(R"(,"data_offsets":)").append(offsets).append("}");
}

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string get(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace safetensors_bytes
