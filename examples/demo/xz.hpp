// SPDX-License-Identifier: Apache-2.0
// What a general compressor makes of the held-out text once it knows the training text:
//   bits per byte = 8 (xz(train + held) - xz(train)) / bytes held
// Preset 9 extreme, and a dictionary that holds the whole text. One thread: the same text gives the
// same size. Errors: invalid_argument (nothing held out), out_of_memory, unsupported (liblzma).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <lzma.h>
#include <deepseek/core/error.hpp>

#include "corpus.hpp"

namespace demo {

inline std::size_t xz_bytes(std::string_view text) {
  lzma_options_lzma options{};
  const bool good = !lzma_lzma_preset(&options, 9 | LZMA_PRESET_EXTREME);
  constexpr std::size_t smallest = LZMA_DICT_SIZE_MIN, largest = std::size_t{1} << 30;
  options.dict_size =
      static_cast<std::uint32_t>(std::bit_ceil(std::clamp(text.size(), smallest, largest)));
  lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};

  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t used = 0;
  const lzma_ret result =
      good ? lzma_stream_buffer_encode(filters, LZMA_CHECK_NONE, nullptr,
                                       reinterpret_cast<const std::uint8_t*>(text.data()),
                                       text.size(), reinterpret_cast<std::uint8_t*>(out.data()),
                                       &used, out.size())
           : LZMA_OPTIONS_ERROR;
  deepseek::require(result != LZMA_MEM_ERROR, deepseek::error_code::out_of_memory,
                    "xz: ", text.size(),
                    " bytes of text need more memory than there is; use less text");
  deepseek::require(result == LZMA_OK, deepseek::error_code::unsupported,
                    "xz: liblzma answers with code ", static_cast<int>(result),
                    "; install a version that encodes LZMA2");
  return used;
}

inline double xz_bits_per_byte(const corpus& text) {
  const std::string& train = text.train.bytes;
  const std::string& held = text.held.bytes;
  deepseek::require(!held.empty(), deepseek::error_code::invalid_argument,
                    "xz: 0 bytes are held out; give a longer text");
  const auto added =
      static_cast<double>(xz_bytes(train + held)) - static_cast<double>(xz_bytes(train));
  return 8 * added / static_cast<double>(held.size());
}

}  // namespace demo
