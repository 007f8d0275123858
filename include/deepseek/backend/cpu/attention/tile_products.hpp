// SPDX-License-Identifier: Apache-2.0
// The products of attention's pairs of bf16 where the processor multiplies whole tiles (kernels/
// tile_dots.hpp): blocks of 16 pairs, at fixed places of d and of the keys of a tile, so that a
// row's sums depend on nothing but the row. Rows are 32, or at most 16, a strip.
#pragma once

#include "deepseek/backend/cpu/attention/in_place.hpp"
#include "deepseek/backend/cpu/kernels/tile_dots.hpp"

#include <algorithm>
#include <type_traits>

namespace deepseek::cpu_attention {

// Panels are whole tiles wide, and a register holds a row of one.
inline constexpr bool multiplies_tiles = simd::has_tiles && lanes<float> == simd::tile_words;

template <int Vectors>
struct attention_tiles : kernels::bf16_tiles {
  static constexpr int vectors = Vectors;
};

// Two strips take each step together: tiles wait for what was just written row by row.
struct tile_strips {
  static constexpr index_t most = kernels::bf16_tiles::rows, together = 2;
  static constexpr index_t next(index_t left) { return std::min(left, most); }
};
using pair_strips = std::conditional_t<multiplies_tiles, tile_strips, register_strips<float>>;

// Pairs that are summed together: with tiles a block of them begins and ends here.
inline constexpr index_t pair_block = multiplies_tiles ? simd::tile_words : 1;
constexpr index_t first_pair(index_t element) {
  return element / 2 / pair_block * pair_block;
}
constexpr index_t end_of_pairs(index_t elements) {
  return round_up((elements + 1) / 2, pair_block);
}

// Sums c [rows][16 Vectors] = or += a [rows][pairs] times a panel.
template <int Vectors>
void multiply_tile_rows(kernels::dot_operands o, index_t rows, bool continues,
                        kernels::tile_memory<float> c) {
  using form = attention_tiles<Vectors>;
  for (int here; rows > 0; rows -= here) {
    here = kernels::dot_rows<form>(rows);
    kernels::multiply_tile_strip<form>(here, o, {}, continues, c);
    o.a += here * o.a_row, c.data += here * c.row;
  }
}

// s[i] *= factor for 64 scores of each row.
inline void scale_scores(float* s, index_t rows, float factor) {
  using pack = simd::pack<float>;
  if (factor == 1) return;
  const pack scale = pack::broadcast(factor);
  for (index_t i = 0; i < rows * key_tile; i += pack::width) {
    (pack::load(s + i) * scale).store(s + i);
  }
}

// Keys where they stand by turned queries, [d / 2][16][2]: out [64 keys][16], times the scale.
template <class View>
void multiply_standing_keys(const View& keys, const attention_range& range, key_tile_of at,
                            const std::byte* queries, float scale, float* out) {
  constexpr index_t w = simd::tile_words;
  const auto strip = [](index_t left) { return kernels::dot_rows<attention_tiles<1>>(left); };
  for_each_strip(keys, range, at, strip, [&](index_t j, const row_run& run) {
    fetch_strip_after(run, 2 * keys.extent(2));
    multiply_tile_rows<1>({run.first, run.row, queries, 4 * w, keys.extent(2) / 2}, run.count,
                          false, {out + j * w, w});
  });
  scale_scores(out, w, scale);  // as many numbers as w rows of scores
}

}  // namespace deepseek::cpu_attention
