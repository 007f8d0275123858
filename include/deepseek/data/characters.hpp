// SPDX-License-Identifier: Apache-2.0
// Text as code points, and what simple statistics say of it: words, scripts, bytes that are broken.
// next_character reads one code point of UTF-8; an invalid byte is one character of its own
// (`invalid`). Overlong forms, surrogates and code points past U+10FFFF are invalid.
// Source: Unicode 15, section 3.9, table 3-7; Unicode Scripts.txt (ranges of whole blocks only).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace deepseek {

struct character {
  char32_t code = 0;
  std::size_t bytes = 0;
  bool valid = true;
};

inline character next_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const character broken{0xfffd, 1, false};
  const std::size_t n = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (n == 0 || text.size() < n) return broken;
  char32_t code = lead & (0xffU >> (n + 1));
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return broken;
    code = code << 6 | (byte(i) & 0x3fU);
  }
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (code < smallest[n] || surrogate || code > 0x10ffff) return broken;
  return {code, n, true};
}

// Calls f(character) for each character in order.
template <class F>
void for_each_character(std::string_view text, const F& f) {
  while (!text.empty()) {
    const character c = next_character(text);
    f(c);
    text.remove_prefix(c.bytes);
  }
}

constexpr bool is_space(char32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

// Scripts that are told apart; han counts the kana with it, since Japanese mixes them.
enum class script { none, latin, greek, cyrillic, hebrew, arabic, devanagari, hangul, han, other };
inline constexpr std::size_t script_count = 10;

constexpr script script_of(char32_t c) {
  struct range {
    char32_t first, last;
    script is;
  };
  constexpr range ranges[] = {{'A', 'Z', script::latin},          {'a', 'z', script::latin},
                              {0xaa, 0xaa, script::latin},        {0xba, 0xba, script::latin},
                              {0xc0, 0xd6, script::latin},        {0xd8, 0xf6, script::latin},
                              {0xf8, 0x24f, script::latin},       {0x370, 0x3ff, script::greek},
                              {0x400, 0x52f, script::cyrillic},   {0x590, 0x5ff, script::hebrew},
                              {0x600, 0x6ff, script::arabic},     {0x750, 0x77f, script::arabic},
                              {0x900, 0x97f, script::devanagari}, {0x980, 0x10ff, script::other},
                              {0x1100, 0x11ff, script::hangul},   {0x1e00, 0x1eff, script::latin},
                              {0x1f00, 0x1fff, script::greek},    {0x3040, 0x30ff, script::han},
                              {0x3400, 0x4dbf, script::han},      {0x4e00, 0x9fff, script::han},
                              {0xac00, 0xd7a3, script::hangul},   {0xf900, 0xfaff, script::han},
                              {0x20000, 0x2fa1f, script::han}};
  for (const range& r : ranges) {
    if (c >= r.first && c <= r.last) return r.is;
  }
  return script::none;  // digits, punctuation, signs, emoji
}

// Words are runs of characters that are not spaces; each character of han is a word of its own.
inline std::size_t word_count(std::string_view text) {
  std::size_t words = 0;
  bool inside = false;
  for_each_character(text, [&](const character& c) {
    if (script_of(c.code) == script::han) {
      ++words;
      inside = false;
    } else if (is_space(c.code)) {
      inside = false;
    } else if (!inside) {
      ++words;
      inside = true;
    }
  });
  return words;
}

struct script_shares {
  std::array<double, script_count> of{};  // of the letters; all 0 where there are none
  std::size_t letters = 0;
  script largest = script::none;
  double share(script s) const { return of[static_cast<std::size_t>(s)]; }
};
inline script_shares scripts_of(std::string_view text) {
  script_shares out;
  std::array<std::size_t, script_count> counts{};
  for_each_character(text, [&](const character& c) {
    const script s = c.valid ? script_of(c.code) : script::none;
    if (s == script::none) return;
    ++out.letters;
    ++counts[static_cast<std::size_t>(s)];
  });
  std::size_t most = 0;
  for (std::size_t s = 0; s < script_count && out.letters > 0; ++s) {
    out.of[s] = static_cast<double>(counts[s]) / static_cast<double>(out.letters);
    if (counts[s] > most) {
      most = counts[s];
      out.largest = static_cast<script>(s);
    }
  }
  return out;
}

// The share of characters that are broken: bytes that are no UTF-8, U+FFFD, control characters but
// tab and line ends, noncharacters, and mojibake: pairs that UTF-8 read as Latin-1 or Windows-1252
// gives, a letter U+00C2 .. U+00C5 or U+00E2 before a character that stands for a byte 80 .. BF.
inline double broken_share(std::string_view text) {
  constexpr char32_t windows[] = {0x20ac, 0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                  0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x17d,  0x2018,
                                  0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc,
                                  0x2122, 0x161,  0x203a, 0x153,  0x17e,  0x178};
  std::size_t characters = 0, broken = 0;
  char32_t before = 0;
  for_each_character(text, [&](const character& c) {
    ++characters;
    const char32_t x = c.code;
    const bool control = (x < 0x20 && x != '\t' && x != '\n' && x != '\r') || x == 0x7f;
    bool trailing = x >= 0x80 && x <= 0xbf;
    for (const char32_t w : windows) trailing = trailing || x == w;
    const bool lead = (before >= 0xc2 && before <= 0xc5) || before == 0xe2;
    if (!c.valid || x == 0xfffd || control || (x & 0xfffe) == 0xfffe) {
      ++broken;
    } else if (lead && trailing) {
      broken += 2;
    } else if (x >= 0x80 && x < 0xa0 && x != 0x85) {
      ++broken;  // a C1 control
    }
    before = c.valid ? x : 0;
  });
  return characters == 0 ? 0.0 : static_cast<double>(broken) / static_cast<double>(characters);
}

}  // namespace deepseek
