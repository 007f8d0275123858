// SPDX-License-Identifier: Apache-2.0
// The innermost product of gemm_int4.hpp for many rows: a tile of rows against one panel of codes,
// taken apart into bytes before, or with AVX2 alone while it is multiplied.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/coded_weights.hpp"
#include "deepseek/backend/cpu/kernels/dot_tile.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"

namespace deepseek::kernels {

struct int4_tile {
  using size = dot_size<byte_fours>;
  static constexpr std::ptrdiff_t columns = size::columns;
  static constexpr bool takes_words = simd::prefers_dot_words;
  static_assert(!takes_words || columns == word_block::lanes);
  // Integers of a group and the element's sums of each stay in registers together; with AVX2 alone
  // the sums wait in memory while a group is multiplied.
  static constexpr int register_rows = simd::register_count == 32 ? 6 : takes_words ? 4 : 2;
  // Whole tiles multiply 32, and read no row that is not there (int4_tiles.hpp).
  static constexpr bool by_tiles = simd::has_tiles && simd::pack<float>::width == 16;
  static constexpr int rows = by_tiles ? 32 : register_rows;
  static constexpr int spare_rows = by_tiles ? 0 : rows - 1;
  const std::byte* a;
  std::ptrdiff_t a_row;
  const float* row_sums;  // of p over each group
  std::ptrdiff_t row_sums_row;
  const std::byte* b;                 // [steps][columns][4], or words as they are stored
  std::ptrdiff_t steps, steps_each;   // of 4, or words: in all, in a group
  const float *scales, *minus_zeros;  // [groups][columns]
  float* sums;                        // [rows][columns]
};

// What the integers of group g add to the sums; factors of each register of columns.
template <int Rows, std::size_t Vectors, class Integers, class Sums>
DEEPSEEK_INLINE void add_group(const int4_tile& t, std::ptrdiff_t g,
                               const simd::pack<float> (&scale)[Vectors],
                               const simd::pack<float> (&less)[Vectors], const Integers& whole,
                               Sums& sums) {
  using pack = simd::pack<float>;
  constexpr int vectors = Vectors;
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    const pack row_sum = pack::broadcast(t.row_sums[i * t.row_sums_row + g]);
    simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
      constexpr int q = i * vectors + j;
      const pack value{__builtin_convertvector(whole[q], typename pack::raw)};
      sums[q] = simd::fma(simd::fma(less[j], row_sum, value), scale[j], pack{sums[q]}).v;
    });
  });
}
// The factors of group g where decode_int4 put them.
struct decoded_factors {
  const int4_tile& t;
  template <class Packs>
  DEEPSEEK_INLINE void operator()(std::ptrdiff_t g, Packs& scale, Packs& less) const {
    using pack = simd::pack<float>;
    simd::unrolled<byte_fours::vectors>([&](auto j) __attribute__((always_inline)) {
      scale[j] = pack::load(t.scales + g * t.columns + j * pack::width);
      less[j] = pack::load(t.minus_zeros + g * t.columns + j * pack::width);
    });
  }
};
template <int Rows, class Factors, class Integers, class Sums>
DEEPSEEK_INLINE void add_group(const int4_tile& t, std::ptrdiff_t g, const Factors& factors,
                               const Integers& whole, Sums& sums) {
  simd::pack<float> scale[byte_fours::vectors], less[byte_fours::vectors];
  factors(g, scale, less);
  add_group<Rows>(t, g, scale, less, whole, sums);
}

template <int Rows, int Lines>
__attribute__((noinline)) void multiply_int4(const int4_tile& t, const std::byte* fetch) {
  using pack = simd::pack<float>;
  using words = simd::vector<std::int32_t>;
  constexpr int vectors = byte_fours::vectors;
  const std::ptrdiff_t row = t.a_row, row3 = 3 * row;
  const std::byte *b = t.b, *a0 = t.a, *a1 = a0 + 4 * row;
  typename pack::raw sums[Rows * vectors];
  simd::unrolled<Rows * vectors>([&](auto q)
                                     __attribute__((always_inline)) { sums[q] = pack::zero().v; });
  for (std::ptrdiff_t k0 = 0, g = 0; k0 < t.steps; k0 += t.steps_each, ++g) {
    words acc[Rows * vectors];
    simd::unrolled<Rows * vectors>([&](auto q)
                                       __attribute__((always_inline)) { acc[q] = words{}; });
    for (std::ptrdiff_t k = std::min(t.steps_each, t.steps - k0); k > 0; --k) {
      words right[vectors];
      simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
        right[j] = byte_fours::load(b + j * sizeof(words));
      });
      if constexpr (Lines > 0) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += 64;
      }
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        const std::byte* group = i < 4 ? a0 : a1;
        std::int32_t four;
        __builtin_memcpy(&four, group + (i % 4 == 3 ? row3 : (i % 4) * row), sizeof four);
        const words left = four - words{};
        simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
          acc[i * vectors + j] = simd::dot_bytes(acc[i * vectors + j], right[j], left);
        });
      });
      a0 += 4;
      if constexpr (Rows > 4) a1 += 4;
      b += dot_size<byte_fours>::step_bytes;
    }
    add_group<Rows>(t, g, decoded_factors{t}, acc, sums);
  }
  simd::unrolled<Rows * vectors>([&](auto q) __attribute__((always_inline)) {
    pack{sums[q]}.store(t.sums + q / vectors * t.columns + q % vectors * pack::width);
  });
}

// Products of codes by bytes fit words for 32 steps: 8 pairs of at most 2 * 15 * 127.
inline constexpr std::ptrdiff_t words_in_words = 4;
static_assert(2 * words_in_words * 2 * 15 * 127 <= 32767);

// Words w .. of one group: sums of products in words, then as integers.
template <int Rows, int Lines, class Integers>
DEEPSEEK_INLINE void add_words(const int4_tile& t, std::ptrdiff_t w, std::ptrdiff_t count,
                               const std::byte* fetch, Integers& whole) {
  using words = simd::vector<std::int32_t>;
  constexpr int vectors = byte_fours::vectors;
  const std::ptrdiff_t row = t.a_row, row3 = 3 * row;
  const std::byte *b = t.b + w * dot_size<byte_fours>::step_bytes, *a = t.a + 8 * w;
  simd::vector<std::int16_t> acc[Rows * vectors];
  simd::unrolled<Rows * vectors>([&](auto q) __attribute__((always_inline)) { acc[q] ^= acc[q]; });
  for (; count > 0; --count) {
    if constexpr (Lines > 0) {
      __builtin_prefetch(fetch, 0, 2);
      fetch += 64;
    }
    simd::unrolled<2>([&](auto odd) __attribute__((always_inline)) {
      words right[vectors];
      simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
        right[j] = byte_fours::load(b + j * sizeof(words)) >> (odd * 4) & 0x0f0f0f0f;
      });
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        std::int32_t four;
        __builtin_memcpy(&four, a + (i % 4 == 3 ? row3 : i * row) + odd * 4, sizeof four);
        const words left = four - words{};
        simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
          acc[i * vectors + j] = simd::add_byte_pairs(acc[i * vectors + j], right[j], left);
        });
      });
    });
    a += 8;
    b += dot_size<byte_fours>::step_bytes;
  }
  simd::unrolled<Rows * vectors>([&](auto q) __attribute__((always_inline)) {
    whole[q] = simd::dot_words(whole[q], std::bit_cast<words>(acc[q]), words{} + 0x00010001);
  });
}

template <int Rows, int Lines, class Factors>
__attribute__((noinline)) void multiply_int4_words(const int4_tile& t, const std::byte* fetch,
                                                   const Factors& factors) {
  using pack = simd::pack<float>;
  using words = simd::vector<std::int32_t>;
  constexpr int count = Rows * byte_fours::vectors;
  typename pack::raw sums[count];
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) { sums[q] = pack::zero().v; });
  for (std::ptrdiff_t w0 = 0, g = 0; w0 < t.steps; w0 += t.steps_each, ++g) {
    words whole[count] = {};
    const std::ptrdiff_t end = std::min(t.steps, w0 + t.steps_each);
    for (std::ptrdiff_t w = w0; w < end; w += words_in_words) {
      add_words<Rows, Lines>(t, w, std::min(words_in_words, end - w), fetch + Lines * w * 64,
                             whole);
    }
    add_group<Rows>(t, g, factors, whole, sums);
  }
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) {
    pack{sums[q]}.store(t.sums + q / byte_fours::vectors * t.columns +
                        q % byte_fours::vectors * pack::width);
  });
}

// The smallest compiled tile that holds `left` rows, or the largest. Rows that are not there are
// read behind the last one and belong to nobody.
constexpr int int4_rows(std::ptrdiff_t left) {
  constexpr int most = int4_tile::rows;
  if constexpr (int4_tile::by_tiles) {
    return static_cast<int>(left >= most ? most : std::min<std::ptrdiff_t>(left, most / 2));
  }
  return left > 4 ? most : left > 2 ? std::min(most, 4) : left > 1 ? 2 : 1;
}

template <int Rows, int Lines>
void multiply_int4_tile(const int4_tile& t, const std::byte* fetch) {
  if constexpr (int4_tile::takes_words) {
    multiply_int4_words<Rows, Lines>(t, fetch, decoded_factors{t});
  } else {
    multiply_int4<Rows, Lines>(t, fetch);
  }
}

template <int Lines>
void multiply_int4_rows(int rows, const int4_tile& t, const std::byte* fetch) {
  switch (rows) {
    case 1:
      return multiply_int4_tile<1, Lines>(t, fetch);
    case 2:
      return multiply_int4_tile<2, Lines>(t, fetch);
    case 4:
      return multiply_int4_tile<std::min(int4_tile::register_rows, 4), Lines>(t, fetch);
    default:
      return multiply_int4_tile<int4_tile::register_rows, Lines>(t, fetch);
  }
}

}  // namespace deepseek::kernels
