// SPDX-License-Identifier: Apache-2.0
// Pictures of a pattern, for documents and for looking at one's own: queries from top to bottom,
// keys from left to right, the last query at the position of the last key.
//   draw       text, one line a query: '#' visible, '.' not
//   draw_svg   an SVG image, one rectangle for each run of visible keys
//   write_pgm, write_svg   the same as a file
// Errors: invalid_argument (negative sizes), io (the file cannot be written).
#pragma once

#include "deepseek/pattern/pattern.hpp"

#include <fstream>
#include <string>

namespace deepseek {

namespace pictures {

// f(i, k) for every pair; row_end(i) after each query.
template <class P, class F, class End>
void for_each_pair(const P& pattern, index_t queries, index_t keys, F f, End row_end) {
  check_pattern<P>();
  require(queries >= 0 && keys >= 0, error_code::invalid_argument, "draw: ", queries,
          " queries and ", keys, " keys; pass sizes >= 0");
  const P bound = bind_pattern(pattern, pattern_scope{.keys = keys, .start = keys - queries});
  for (index_t i = 0; i < queries; ++i) {
    for (index_t k = 0; k < keys; ++k) f(i, k, bound.visible(keys - queries + i, k));
    row_end(i);
  }
}

inline void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  require(file.good(), error_code::io, "draw: ", escaped(path),
          " cannot be written; choose a folder that exists and may be written to");
}

}  // namespace pictures

template <class P>
std::string draw(const P& pattern, index_t queries, index_t keys) {
  std::string text;
  pictures::for_each_pair(
      pattern, queries, keys, [&](index_t, index_t, bool seen) { text += seen ? '#' : '.'; },
      [&](index_t) { text += '\n'; });
  return text;
}

// Each pair is a square of `cell` user units; the picture scales freely.
template <class P>
std::string draw_svg(const P& pattern, index_t queries, index_t keys, index_t cell = 8) {
  const auto number = [](index_t x) { return std::to_string(x); };
  const std::string width = number(keys * cell), height = number(queries * cell);
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + width + " " +
                    height + "\" width=\"" + width + "\" height=\"" + height +
                    "\">\n<rect width=\"100%\" height=\"100%\" fill=\"#f2f2f2\"/>\n"
                    "<g fill=\"#1f4e8c\">\n";
  index_t run = 0;
  const auto end_run = [&](index_t i, index_t k) {
    if (run > 0) {
      svg += "<rect x=\"" + number((k - run) * cell) + "\" y=\"" + number(i * cell) +
             "\" width=\"" + number(run * cell) + "\" height=\"" + number(cell) + "\"/>\n";
    }
    run = 0;
  };
  pictures::for_each_pair(
      pattern, queries, keys,
      [&](index_t i, index_t k, bool seen) { seen ? static_cast<void>(++run) : end_run(i, k); },
      [&](index_t i) { end_run(i, keys); });
  return svg + "</g>\n</svg>\n";
}

template <class P>
void write_svg(const std::string& path, const P& pattern, index_t queries, index_t keys) {
  pictures::write_file(path, draw_svg(pattern, queries, keys));
}

// A grey image of one byte a pair, black where visible; image viewers and converters read it.
template <class P>
void write_pgm(const std::string& path, const P& pattern, index_t queries, index_t keys) {
  std::string image = "P5\n" + std::to_string(keys) + " " + std::to_string(queries) + "\n255\n";
  pictures::for_each_pair(
      pattern, queries, keys,
      [&](index_t, index_t, bool seen) { image += seen ? '\0' : static_cast<char>(-1); },
      [](index_t) {});
  pictures::write_file(path, image);
}

}  // namespace deepseek
