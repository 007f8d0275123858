// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as a safetensors file held in memory: a value whose invariants hold and that a
// header written from it gives again, or a deepseek::error. Anything else is a defect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <deepseek/io/safetensors_header.hpp>
#include <deepseek/io/safetensors_writer.hpp>

namespace fuzz {

// What the reader promises of every header it accepts.
inline bool sound(const deepseek::safetensors_header& header, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const auto& entry : header.tensors()) {
    if (entry.begin != covered || entry.end < entry.begin) return false;
    if (deepseek::byte_count(entry.name, entry.dtype, entry.shape) != entry.bytes()) return false;
    if (header.find(entry.name) != &entry) return false;
    covered = entry.end;
  }
  return covered == data_bytes;
}

// Written and read again, the same tensors and metadata come back.
inline bool survives_writing(const deepseek::safetensors_header& header,
                             std::span<const std::byte> data) {
  std::vector<deepseek::tensor_source> sources;
  for (const auto& entry : header.tensors()) {
    sources.push_back(
        {entry.name, entry.dtype, entry.shape, data.subspan(entry.begin, entry.bytes())});
  }
  const auto order = deepseek::detail::by_width(sources);
  const std::string text = deepseek::detail::header_text(header.metadata(), order);
  const deepseek::safetensors_header again(std::string_view(text).substr(8), data.size(), "again");
  if (again.metadata() != header.metadata()) return false;
  for (const auto& entry : header.tensors()) {
    const auto* twin = again.find(entry.name);
    if (twin == nullptr || twin->dtype != entry.dtype || twin->shape != entry.shape) return false;
  }
  return again.tensors().size() == header.tensors().size();
}

struct verdict {
  bool holds = true;                         // false: a promise was broken
  std::optional<deepseek::error_code> code;  // of the refusal, if it was one
};

inline verdict read_safetensors(std::span<const std::byte> file) {
  try {
    const std::size_t length = deepseek::safetensors_header_length(
        file.first(file.size() < 8 ? file.size() : 8), file.size(), "input");
    const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
    const auto data = file.subspan(8 + length);
    const deepseek::safetensors_header header(text, data.size(), "input");
    return {sound(header, data.size()) && survives_writing(header, data), std::nullopt};
  } catch (const deepseek::error& refusal) {
    return {true, refusal.code()};
  }
}

}  // namespace fuzz
