// SPDX-License-Identifier: Apache-2.0
// The alphabet in which byte-level vocabularies are written: each byte as one printable character.
//   bytes 21-7e, a1-ac, ae-ff (hexadecimal) stand for themselves (U+0021 ... U+00FF); the other 68,
//   in ascending order, are U+0100 ... U+0143, so that a space is written U+0120.
// Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", the published
// encoder's table of bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek/io/utf8.hpp"

namespace deepseek {

namespace detail {

struct byte_alphabet {
  std::array<char32_t, 256> letters{};    // of each byte
  std::array<std::int16_t, 0x144> bytes;  // of each letter, -1: no letter

  constexpr byte_alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (std::size_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
      letters[b] = printable ? static_cast<char32_t>(b) : next++;
      bytes[letters[b]] = static_cast<std::int16_t>(b);
    }
  }
};
inline constexpr byte_alphabet byte_letters{};

}  // namespace detail

// Bytes -> letters.
inline std::string byte_level_letters(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    append_utf8(out, detail::byte_letters.letters[static_cast<unsigned char>(byte)]);
  }
  return out;
}

// Letters (valid UTF-8) -> bytes; nothing when one of them is outside the alphabet.
inline std::optional<std::string> byte_level_bytes(std::string_view letters) {
  std::string out;
  while (!letters.empty()) {
    const auto [c, length] = first_character(letters);
    if (c >= detail::byte_letters.bytes.size() || detail::byte_letters.bytes[c] < 0) {
      return std::nullopt;
    }
    out += static_cast<char>(detail::byte_letters.bytes[c]);
    letters.remove_prefix(length);
  }
  return out;
}

}  // namespace deepseek
