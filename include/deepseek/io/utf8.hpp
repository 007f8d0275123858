// SPDX-License-Identifier: Apache-2.0
// Text as runs of valid UTF-8 and of other bytes; other bytes shown as U+FFFD; a stream that holds
// back a character until its last byte is there.
// U+FFFD stands for each maximal part of a sequence that is cut short, as Unicode advises, so a
// stream and the whole text give the same characters. Source: Unicode 15, section 3.9.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "deepseek/io/json_text.hpp"

namespace deepseek {

inline constexpr std::string_view replacement_character = "\xef\xbf\xbd";

// Appends the UTF-8 form of a code point below 0x110000 that is no surrogate.
inline void append_utf8(std::string& out, char32_t c) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 63));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 63));
    put(0x80 | (c >> 6 & 63));
  }
  put(0x80 | (c & 63));
}

// The code point at the start of valid UTF-8, and its length in bytes.
inline std::pair<char32_t, std::size_t> first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(text[i]) & 0xff; };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {(lead & 31) << 6 | (byte(1) & 63), 2};
  if (lead < 0xf0) return {(lead & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63), 3};
  return {(lead & 7) << 18 | (byte(1) & 63) << 12 | (byte(2) & 63) << 6 | (byte(3) & 63), 4};
}

namespace detail {

// How many bytes at the start of `text`, which is no valid sequence there, are the beginning of
// one: 0 when the first byte begins none.
inline std::size_t utf8_beginning(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  std::size_t n = 1;
  while (n < length && n < text.size() && byte(n) >= low && byte(n) <= high) {
    low = 0x80;
    high = 0xbf;
    ++n;
  }
  return n;
}

}  // namespace detail

// Calls f(run, valid) for the longest runs of valid UTF-8 and of other bytes, in order.
template <class F>
void for_each_utf8_run(std::string_view text, const F& f) {
  while (!text.empty()) {
    const std::size_t valid = first_invalid_utf8(text);
    if (valid > 0) f(text.substr(0, valid), true);
    text.remove_prefix(valid);
    std::size_t other = 0;
    while (other < text.size() && detail::utf8_sequence(text.substr(other)) == 0) ++other;
    if (other > 0) f(text.substr(0, other), false);
    text.remove_prefix(other);
  }
}

// `text` with everything that is no UTF-8 replaced by U+FFFD.
inline std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  for_each_utf8_run(text, [&out](std::string_view run, bool valid) {
    if (valid) out += run;
    while (!valid && !run.empty()) {
      out += replacement_character;
      run.remove_prefix(std::max<std::size_t>(1, detail::utf8_beginning(run)));
    }
  });
  return out;
}

// Bytes in, whole characters out: what is printed while it is generated.
class utf8_stream {
 public:
  // The characters that are complete with these bytes; U+FFFD for what can never be complete.
  std::string push(std::string_view bytes) {
    held_ += bytes;
    std::size_t keep = 0;
    for (std::size_t n = std::min<std::size_t>(3, held_.size()); n > 0 && keep == 0; --n) {
      const std::string_view tail = std::string_view(held_).substr(held_.size() - n);
      if (detail::utf8_sequence(tail) == 0 && detail::utf8_beginning(tail) == n) keep = n;
    }
    std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, held_.size() - keep));
    held_.erase(0, held_.size() - keep);
    return out;
  }
  // The end: U+FFFD if a character was begun, else nothing.
  std::string finish() { return replace_invalid_utf8(std::exchange(held_, {})); }

 private:
  std::string held_;
};

}  // namespace deepseek
