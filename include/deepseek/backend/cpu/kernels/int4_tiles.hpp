// SPDX-License-Identifier: Apache-2.0
// The innermost product of gemm_int4.hpp by whole tiles (simd_tiles.hpp): 32 or at most 16 rows
// against one panel of codes, taken apart into bytes before. The integers of a group go through
// memory, where no tile can become a register; they are added to the element's sums while the next
// group is multiplied. The bits are those of int4_tile.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/int4_tile.hpp"
#include "deepseek/backend/cpu/kernels/tile_dots.hpp"

namespace deepseek::kernels {

// Signed bytes of rows by unsigned codes.
struct code_tiles : byte_tiles {
  template <int C, int A, int B>
  static DEEPSEEK_INLINE void add() {
    simd::dot_signed_tiles<C, A, B>();
  }
};

// The integers of a group: [rows][columns]. Two of them and the sums must not lie 4 KiB apart:
// loads from one would wait for stores to another.
struct group_integers {
  static constexpr std::ptrdiff_t columns = dot_size<code_tiles>::columns;
  alignas(64) std::int32_t of[code_tiles::rows * columns + 336];
};

// Steps k0 .. of one group; between(j) runs while tiles are multiplied, for j = 0, 1.
template <int Strips, class Between>
DEEPSEEK_INLINE void multiply_group(const int4_tile& t, int rows, std::ptrdiff_t k0,
                                    std::ptrdiff_t steps, group_integers& out, Between&& between) {
  constexpr std::ptrdiff_t row_bytes = group_integers::columns * 4;
  const tile_memory<std::int32_t> c{out.of, group_integers::columns};
  dot_operands o{};
  o.a_row = t.a_row, o.b_step = row_bytes;
  bool continues = false;
  for (std::ptrdiff_t k = 0; k < steps; k += simd::tile_words) {
    // A group that is not whole blocks ends with a shape of its own, which empties the sums.
    const auto words = static_cast<int>(std::min<std::ptrdiff_t>(simd::tile_words, steps - k));
    const bool again = k > 0 && words < simd::tile_words;
    if (again) {
      for_each_sum_tile<code_tiles, Strips>(
          c, [&](auto q, auto* at) { simd::store_tile<q>(at, row_bytes); });
    }
    shape_strips(rows, words);
    if (k == 0 || again) {
      for_each_sum_tile<code_tiles, Strips>(c, [&](auto q, const auto* at) {
        continues ? simd::load_tile<q>(at, row_bytes) : simd::zero_tile<q>();
      });
    }
    add_tile_block<code_tiles, Strips>(
        o, t.a + 4 * (k0 + k),
        t.b + (k0 + k) * row_bytes, [&](auto j) __attribute__((always_inline)) {
          if (k == 0) between(j);
        });
    continues = true;
  }
  for_each_sum_tile<code_tiles, Strips>(
      c, [&](auto q, auto* at) { simd::store_tile<q>(at, row_bytes); });
}

// Row i of a group's integers to its sums.
DEEPSEEK_INLINE void add_group_row(const int4_tile& t, std::ptrdiff_t g, int i,
                                   const simd::pack<float> (&scale)[2],
                                   const simd::pack<float> (&less)[2], const group_integers& from) {
  using pack = simd::pack<float>;
  simd::vector<std::int32_t> whole[2];
  typename pack::raw sums[2];
  float* const to = t.sums + i * t.columns;
  simd::unrolled<2>([&](auto j) __attribute__((always_inline)) {
    __builtin_memcpy(&whole[j], from.of + i * t.columns + j * pack::width, sizeof whole[j]);
    sums[j] = pack::load(to + j * pack::width).v;
  });
  int4_tile row = t;
  row.row_sums += i * t.row_sums_row;
  add_group<1>(row, g, scale, less, whole, sums);
  simd::unrolled<2>([&](auto j) __attribute__((always_inline)) {
    pack{sums[j]}.store(to + j * pack::width);
  });
}

DEEPSEEK_INLINE void add_group_rows(const int4_tile& t, std::ptrdiff_t g, int first, int last,
                                    const group_integers& from) {
  using pack = simd::pack<float>;
  pack scale[2], less[2];
  simd::unrolled<2>([&](auto j) __attribute__((always_inline)) {
    scale[j] = pack::load(t.scales + g * t.columns + j * pack::width);
    less[j] = pack::load(t.minus_zeros + g * t.columns + j * pack::width);
  });
  for (int i = first; i < last; ++i) add_group_row(t, g, i, scale, less, from);
}

// fetch: a cache line a step, or null.
template <int Strips>
__attribute__((noinline)) void multiply_int4_strips(const int4_tile& t, int rows,
                                                    const std::byte* fetch) {
  const int in_tile = Strips == 2 ? simd::tile_rows : rows;
  group_integers last[2];
  std::fill_n(t.sums, rows * t.columns, 0.0F);
  std::ptrdiff_t g = 0;
  for (std::ptrdiff_t k0 = 0; k0 < t.steps; k0 += t.steps_each, ++g) {
    const std::ptrdiff_t steps = std::min(t.steps_each, t.steps - k0);
    multiply_group<Strips>(
        t, in_tile, k0, steps, last[g % 2], [&](auto j) __attribute__((always_inline)) {
          if (g == 0) return;
          const int from = j * rows / 2, to = (j + 1) * rows / 2;
          add_group_rows(t, g - 1, from, to, last[(g - 1) % 2]);
        });
    for (std::ptrdiff_t k = 0; fetch != nullptr && k < steps; ++k, fetch += line_bytes) {
      __builtin_prefetch(fetch, 0, 2);
    }
  }
  if (g > 0) add_group_rows(t, g - 1, 0, rows, last[(g - 1) % 2]);
}

inline void multiply_int4_by_tiles(const int4_tile& t, int rows, const std::byte* fetch) {
  if (rows > simd::tile_rows) return multiply_int4_strips<2>(t, rows, fetch);
  multiply_int4_strips<1>(t, rows, fetch);
}

}  // namespace deepseek::kernels
