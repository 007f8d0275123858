// SPDX-License-Identifier: Apache-2.0
// The innermost product of gemm_int4.hpp for few rows, against the words as they are stored. The
// sums are those of int4_tile.hpp: a group's exact, one fma adds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "deepseek/backend/cpu/kernels/int4_tile.hpp"

namespace deepseek::kernels {

// Few rows: a word is taken apart in registers, and its scales are read where they are stored, so
// that memory is read once, in order, and nothing is written in between.
struct int4_few {
  static constexpr int rows = simd::register_count == 32 ? 8 : 2;
  static constexpr bool whole_panels = int4_tile::columns % word_block::lanes == 0;
  // Beyond so many rows it pays to take words apart, or their scales, once for all.
  static constexpr std::ptrdiff_t most = !whole_panels            ? 0
                                         : int4_tile::takes_words ? rows
                                                                  : 2 * rows;
  static constexpr int vectors = word_block::lanes / simd::pack<float>::width;
  // The smallest compiled tile that holds `left` rows, or the largest. Rows that are not there are
  // read behind the last one and belong to nobody.
  static constexpr int tile(std::ptrdiff_t left) {
    return left > 4 ? rows : left > 2 ? std::min(rows, 4) : left > 1 ? 2 : 1;
  }

  // Bytes, into the first cache: too much is done with a word for the processor to look ahead
  // itself. A Zen 4 core, one row: 1.05 times as fast as with 6144, 3072 and 4608 the same, 2048
  // and 9216 slower.
  static constexpr std::ptrdiff_t ahead = 4096;
  // AVX2, into the second cache: a Zen 4 core, one row, 20 GB/s at 4 KiB, 26 at 8 and 16 (with
  // scales decoded for a panel first 17).
  static constexpr std::ptrdiff_t words_ahead = 8192;

  // One register of words against the rows' bytes, which `a` points to.
  template <int Rows, class Integers>
  static DEEPSEEK_INLINE void add_word(const std::byte* a, std::ptrdiff_t row, const std::byte* b,
                                       Integers& whole) {
    using words = simd::vector<std::int32_t>;
    const std::byte* const a1 = a + 4 * row;
    simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
      const words word = byte_fours::load(b + j * sizeof(words));
      simd::unrolled<2>([&](auto odd) __attribute__((always_inline)) {
        const words codes = word >> (odd * 4) & 0x0f0f0f0f;
        simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
          std::int32_t four;
          __builtin_memcpy(&four, (i < 4 ? a : a1) + i % 4 * row + odd * 4, sizeof four);
          constexpr int q = i * vectors + j;
          whole[q] = simd::dot_bytes(whole[q], codes, four - words{});
        });
      });
    });
  }
};

// The factors of the columns from n0 on, read where they are stored. Where they stand is known
// before the loop: with one row there is as much to do around a group's words as for them.
template <class Words>
struct stored_factors {
  typename Words::group_factors column[int4_few::vectors];
  stored_factors(const Words& w, std::ptrdiff_t n0) {
    for (int j = 0; j < int4_few::vectors; ++j) {
      column[j] = w.factors_from(n0 + j * simd::pack<float>::width);
    }
  }
  template <class Packs>
  DEEPSEEK_INLINE void operator()(std::ptrdiff_t g, Packs& scale, Packs& less) const {
    simd::unrolled<int4_few::vectors>([&](auto j) __attribute__((always_inline)) {
      const auto factors = column[j].at(g);
      scale[j] = factors.first, less[j] = -factors.second;
    });
  }
};

// The columns of one panel of int4_layout, from n0 on; t: b its words, no scales.
template <int Rows, class Words>
__attribute__((noinline)) void multiply_int4_few(const Words& w, std::ptrdiff_t n0,
                                                 const int4_tile& t) {
  using pack = simd::pack<float>;
  constexpr int vectors = int4_few::vectors, count = Rows * vectors;
  constexpr std::ptrdiff_t word_bytes = 4 * word_block::lanes;
  typename pack::raw sums[count];
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) { sums[q] = pack::zero().v; });
  const stored_factors<Words> factors{w, n0};
  const std::byte *a = t.a, *b = t.b;
  for (std::ptrdiff_t w0 = 0, g = 0; w0 < t.steps; w0 += t.steps_each, ++g) {
    simd::vector<std::int32_t> whole[count];
    simd::unrolled<count>([&](auto q) __attribute__((always_inline)) { whole[q] ^= whole[q]; });
    for (std::ptrdiff_t left = std::min(t.steps_each, t.steps - w0); left > 0; --left) {
      __builtin_prefetch(b + int4_few::ahead);
      int4_few::add_word<Rows>(a, t.a_row, b, whole);
      a += 8, b += word_bytes;
    }
    pack scale[vectors], less[vectors];
    factors(g, scale, less);
    add_group<Rows>(t, g, scale, less, whole, sums);
  }
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) {
    pack{sums[q]}.store(t.sums + q / vectors * t.columns + q % vectors * pack::width);
  });
}

template <class Words>
void multiply_int4_few(int rows, const Words& w, std::ptrdiff_t n0, const int4_tile& t) {
  if constexpr (int4_tile::takes_words) {
    const stored_factors<Words> factors{w, n0};
    const std::byte* const fetch = t.b + int4_few::words_ahead;
    rows == 1 ? multiply_int4_words<1, 1>(t, fetch, factors)
              : multiply_int4_words<2, 1>(t, fetch, factors);
  } else {
    switch (rows) {
      case 1:
        return multiply_int4_few<1>(w, n0, t);
      case 2:
        return multiply_int4_few<2>(w, n0, t);
      case 4:
        return multiply_int4_few<std::min(int4_few::rows, 4)>(w, n0, t);
      default:
        return multiply_int4_few<int4_few::rows>(w, n0, t);
    }
  }
}

}  // namespace deepseek::kernels
