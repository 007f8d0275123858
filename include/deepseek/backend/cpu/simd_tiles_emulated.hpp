// SPDX-License-Identifier: Apache-2.0
// The tiles of simd_tiles.hpp in plain loops, bit for bit: what tests compute with where the
// processor has none, and what they hold the processor against.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "deepseek/core/error.hpp"

namespace deepseek::simd {

inline constexpr int tile_rows = 16, tile_words = 16;

// Laid out as LDTILECFG reads it.
struct alignas(64) tile_shapes {
  std::uint8_t palette = 1, start = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};

  constexpr tile_shapes& set(int tile, int of_rows, int of_words) {
    rows[tile] = static_cast<std::uint8_t>(of_rows);
    bytes[tile] = static_cast<std::uint16_t>(4 * of_words);
    return *this;
  }
};
static_assert(sizeof(tile_shapes) == 64);

}  // namespace deepseek::simd

namespace deepseek::simd::emulated {

struct tile {
  std::int32_t words[tile_rows][tile_words] = {};
};
// Of the calling thread.
struct tile_file {
  tile_shapes shapes{0, 0, {}, {}, {}};
  tile tiles[8];
};
inline tile_file& of_thread() {
  thread_local tile_file file;
  return file;
}

inline void load_shapes(const tile_shapes& shapes) {
  of_thread() = {shapes, {}};
}
inline void load(int t, const void* p, std::ptrdiff_t row) {
  tile_file& file = of_thread();
  file.tiles[t] = {};
  for (int i = 0; i < file.shapes.rows[t]; ++i) {
    __builtin_memcpy(file.tiles[t].words[i], static_cast<const std::byte*>(p) + i * row,
                     file.shapes.bytes[t]);
  }
}
inline void store(int t, void* p, std::ptrdiff_t row) {
  const tile_file& file = of_thread();
  for (int i = 0; i < file.shapes.rows[t]; ++i) {
    __builtin_memcpy(static_cast<std::byte*>(p) + i * row, file.tiles[t].words[i],
                     file.shapes.bytes[t]);
  }
}

inline float flushed(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}
// One of the two bf16 of a word.
inline float half_of(std::int32_t word, bool upper) {
  const auto bits = static_cast<std::uint32_t>(word);
  return flushed(std::bit_cast<float>(upper ? bits & 0xffff0000U : bits << 16));
}
// The sum after the words of row `a` by those of column n.
inline std::int32_t add_pairs(std::int32_t sum, const std::int32_t* a, const tile& b, int n,
                              int words) {
  float chain[2] = {};
  for (int w = 0; w < words; ++w) {
    for (int half = 0; half < 2; ++half) {
      const float x = half_of(a[w], half == 1), y = half_of(b.words[w][n], half == 1);
      chain[half] = flushed(std::fma(x, y, chain[half]));
    }
  }
  const float added = flushed(chain[0] + chain[1]);
  return std::bit_cast<std::int32_t>(flushed(flushed(std::bit_cast<float>(sum)) + added));
}
template <class Left, class Right>
std::int32_t add_bytes_of(std::int32_t sum, const std::int32_t* a, const tile& b, int n,
                          int words) {
  auto total = static_cast<std::uint32_t>(sum);
  for (int w = 0; w < words; ++w) {
    for (int byte = 0; byte < 32; byte += 8) {
      const int x = static_cast<Left>(a[w] >> byte);
      const int y = static_cast<Right>(b.words[w][n] >> byte);
      total += static_cast<std::uint32_t>(x * y);
    }
  }
  return static_cast<std::int32_t>(total);
}
inline constexpr auto add_bytes = add_bytes_of<std::uint8_t, std::int8_t>;
inline constexpr auto add_signed_bytes = add_bytes_of<std::int8_t, std::uint8_t>;
// The shapes fit each other, as the processor demands.
template <class F>
void add(int c, int a, int b, F&& f) {
  tile_file& file = of_thread();
  const tile_shapes& s = file.shapes;
  require(s.rows[c] == s.rows[a] && s.bytes[c] == s.bytes[b] && s.bytes[a] == 4 * s.rows[b],
          error_code::invalid_argument, "tiles ", c, ", ", a, ", ", b, " do not fit each other");
  for (int m = 0; m < s.rows[c]; ++m) {
    for (int n = 0; n < s.bytes[c] / 4; ++n) {
      std::int32_t& sum = file.tiles[c].words[m][n];
      sum = f(sum, file.tiles[a].words[m], file.tiles[b], n, s.rows[b]);
    }
  }
}

}  // namespace deepseek::simd::emulated
