// SPDX-License-Identifier: Apache-2.0
// y[m, n] = a[m] sum_g s[n, g] (sum over k in g of (q[n, k] - z[n, g]) p[m, k]) + bias[n]: codes q
// of 4 bits in the order of int4_layout, p signed bytes. A panel of q becomes bytes once for all
// rows, with AVX2 alone while it is multiplied; a group's sum is exact (byte products, then z times
// the sum of p, in floats below 2^24),
// one fma adds it to the element's. While a panel is multiplied the next one is fetched. Bytes of a
// row lie as words give them: of 8 neighbours the even ones first. Same bits for all cuts and
// thread counts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "deepseek/backend/cpu/kernels/coded_weights.hpp"
#include "deepseek/backend/cpu/kernels/gemm_dot.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"

namespace deepseek::kernels {

struct int4_tile {
  using size = dot_size<byte_fours>;
  static constexpr std::ptrdiff_t columns = size::columns;
  static constexpr bool takes_words = simd::prefers_dot_words;
  static_assert(!takes_words || columns == word_block::lanes);
  // Integers of a group and the element's sums of each stay in registers together; with AVX2 alone
  // the sums wait in memory while a group is multiplied.
  static constexpr int rows = simd::register_count == 32 ? 6 : takes_words ? 4 : 2;
  const std::byte* a;
  std::ptrdiff_t a_row;
  const float* row_sums;  // of p over each group
  std::ptrdiff_t row_sums_row;
  const std::byte* b;                 // [steps][columns][4], or words as they are stored
  std::ptrdiff_t steps, steps_each;   // of 4, or words: in all, in a group
  const float *scales, *minus_zeros;  // [groups][columns]
  float* sums;                        // [rows][columns]
};

// What the integers of group g add to the sums.
template <int Rows, class Integers, class Sums>
DEEPSEEK_INLINE void add_group(const int4_tile& t, std::ptrdiff_t g, const Integers& whole,
                               Sums& sums) {
  using pack = simd::pack<float>;
  constexpr int vectors = byte_fours::vectors;
  pack scale[vectors], less[vectors];
  simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
    scale[j] = pack::load(t.scales + g * t.columns + j * pack::width);
    less[j] = pack::load(t.minus_zeros + g * t.columns + j * pack::width);
  });
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    const pack row_sum = pack::broadcast(t.row_sums[i * t.row_sums_row + g]);
    simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
      constexpr int q = i * vectors + j;
      const pack value{__builtin_convertvector(whole[q], typename pack::raw)};
      sums[q] = simd::fma(simd::fma(less[j], row_sum, value), scale[j], pack{sums[q]}).v;
    });
  });
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
    add_group<Rows>(t, g, acc, sums);
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

template <int Rows, int Lines>
__attribute__((noinline)) void multiply_int4_words(const int4_tile& t, const std::byte* fetch) {
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
    add_group<Rows>(t, g, whole, sums);
  }
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) {
    pack{sums[q]}.store(t.sums + q / byte_fours::vectors * t.columns +
                        q % byte_fours::vectors * pack::width);
  });
}

// The tallest compiled tile that `left` rows fill.
constexpr int int4_rows(std::ptrdiff_t left) {
  constexpr int most = int4_tile::rows;
  return left >= most ? most : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

template <int Rows, int Lines>
void multiply_int4_tile(const int4_tile& t, const std::byte* fetch) {
  if constexpr (int4_tile::takes_words) {
    multiply_int4_words<Rows, Lines>(t, fetch);
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
      return multiply_int4_tile<std::min(int4_tile::rows, 4), Lines>(t, fetch);
    default:
      return multiply_int4_tile<int4_tile::rows, Lines>(t, fetch);
  }
}

// Few rows: a word is taken apart in registers, and its scales are read where they are stored, so
// that memory is read once, in order, and nothing is written in between.
struct int4_few {
  static constexpr int rows = simd::register_count == 32 ? 8 : 2;
  static constexpr bool whole_panels = int4_tile::columns % word_block::lanes == 0;
  // Beyond so many rows it pays to take words apart once for all.
  static constexpr std::ptrdiff_t most = simd::prefers_dot_words || !whole_panels ? 0 : 2 * rows;
  static constexpr int vectors = word_block::lanes / simd::pack<float>::width;
  // The smallest compiled tile that holds `left` rows, or the largest. Rows that are not there are
  // read behind the last one and belong to nobody.
  static constexpr int tile(std::ptrdiff_t left) {
    return left > 4 ? rows : left > 2 ? std::min(rows, 4) : left > 1 ? 2 : 1;
  }

  // Bytes, into the first cache: too much is done with a word for the processor to look ahead
  // itself (Zen 4: 27 GB/s, and 22 with stream_ahead).
  static constexpr std::ptrdiff_t ahead = 6144;

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

// The columns of one panel of int4_layout, from n0 on; t: b its words, no scales.
template <int Rows, class Words>
__attribute__((noinline)) void multiply_int4_few(const Words& w, std::ptrdiff_t n0,
                                                 const int4_tile& t) {
  using pack = simd::pack<float>;
  constexpr int vectors = int4_few::vectors, count = Rows * vectors;
  constexpr std::ptrdiff_t word_bytes = 4 * word_block::lanes;
  typename pack::raw sums[count];
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) { sums[q] = pack::zero().v; });
  const std::byte *a = t.a, *b = t.b;
  for (std::ptrdiff_t w0 = 0, g = 0; w0 < t.steps; w0 += t.steps_each, ++g) {
    simd::vector<std::int32_t> whole[count];
    simd::unrolled<count>([&](auto q) __attribute__((always_inline)) { whole[q] ^= whole[q]; });
    for (std::ptrdiff_t left = std::min(t.steps_each, t.steps - w0); left > 0; --left) {
      __builtin_prefetch(b + int4_few::ahead);
      int4_few::add_word<Rows>(a, t.a_row, b, whole);
      a += 8, b += word_bytes;
    }
    simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
      const auto [scale, zero] = w.scale_and_zero(g, n0 + j * pack::width);
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        constexpr int q = i * vectors + j;
        const pack row_sum = pack::broadcast(t.row_sums[i * t.row_sums_row + g]);
        const pack value{__builtin_convertvector(whole[q], typename pack::raw)};
        sums[q] = simd::fma(simd::fma(-zero, row_sum, value), scale, pack{sums[q]}).v;
      });
    });
  }
  simd::unrolled<count>([&](auto q) __attribute__((always_inline)) {
    pack{sums[q]}.store(t.sums + q / vectors * t.columns + q % vectors * pack::width);
  });
}

template <class Words>
void multiply_int4_few(int rows, const Words& w, std::ptrdiff_t n0, const int4_tile& t) {
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

// Rows of signed bytes, each `row` bytes from the next, whole words of 8; spare_rows more may be read.
struct signed_rows {
  static constexpr std::ptrdiff_t spare_rows = int4_few::rows - 1;
  const std::byte* codes;
  std::ptrdiff_t row;
  const float* scales;
  const float* sums;  // [m, groups]
  std::ptrdiff_t sums_row;
};

template <class Words>
struct int4_problem {
  gemm_shape shape;
  signed_rows a;
  Words b;  // int4_words of coded_weights.hpp
  const float* bias;
  float* y;
  std::ptrdiff_t y_row;
};

struct int4_bytes;
struct int4_factors;

// The codes of the panel of columns from n0 on as bytes in scratch.
template <class Words>
const std::byte* decode_int4_codes(const Words& w, std::ptrdiff_t n0) {
  constexpr std::ptrdiff_t columns = int4_tile::columns, lanes = word_block::lanes;
  auto* const bytes =
      scratch<int4_bytes, std::int32_t>(static_cast<std::size_t>(2 * w.words_deep * columns));
  for (std::ptrdiff_t j = 0; j < columns; j += simd::pack<float>::width) {
    const std::ptrdiff_t n = n0 + j;
    const std::int32_t* from = w.data + n / lanes * w.words_deep * lanes + n % lanes;
    for (std::ptrdiff_t i = 0; i < w.words_deep; ++i, from += lanes) {
      weight_word word;
      __builtin_memcpy(&word, from, sizeof word);
      const weight_word even = word & 0x0f0f0f0f, odd = (word >> 4) & 0x0f0f0f0f;
      __builtin_memcpy(bytes + 2 * i * columns + j, &even, sizeof even);
      __builtin_memcpy(bytes + (2 * i + 1) * columns + j, &odd, sizeof odd);
    }
  }
  return reinterpret_cast<const std::byte*>(bytes);
}

// The panel of columns from n0 on: scales and zero points in scratch, codes where the tile reads
// them.
template <class Words>
void decode_int4(const Words& w, std::ptrdiff_t n0, int4_tile& t) {
  using pack = simd::pack<float>;
  constexpr std::ptrdiff_t columns = int4_tile::columns;
  auto* const factors =
      scratch<int4_factors, float>(static_cast<std::size_t>(2 * w.groups_deep * columns));
  float* const zeros = factors + w.groups_deep * columns;
  for (std::ptrdiff_t j = 0; j < columns; j += pack::width) {
    for (std::ptrdiff_t g = 0; g < w.groups_deep; ++g) {
      const auto [scale, zero] = w.scale_and_zero(g, n0 + j);
      scale.store(factors + g * columns + j);
      (-zero).store(zeros + g * columns + j);
    }
  }
  t.scales = factors, t.minus_zeros = zeros;
  if constexpr (int4_tile::takes_words) {
    t.b = reinterpret_cast<const std::byte*>(w.data + n0 * w.words_deep);
    t.steps = w.words_deep, t.steps_each = w.group / 8;
  } else {
    t.b = decode_int4_codes(w, n0);
    t.steps = 2 * w.words_deep, t.steps_each = w.group / 4;
  }
}

template <class Words>
void finish_int4(const int4_problem<Words>& p, std::ptrdiff_t m, std::ptrdiff_t n,
                 const float* sums) {
  using pack = simd::pack<float>;
  const pack scale = pack::broadcast(p.a.scales[m]);
  for (std::ptrdiff_t j = 0; j < std::min(int4_tile::columns, p.shape.n - n); j += pack::width) {
    const std::ptrdiff_t rest = p.shape.n - n - j;
    const pack bias = p.bias == nullptr ? pack::zero() : pack::load_up_to(p.bias + n + j, rest);
    simd::fma(pack::load(sums + j), scale, bias).store_up_to(p.y + m * p.y_row + n + j, rest);
  }
}

// One decoded panel against rows m0 .. m1.
template <class Words>
void multiply_int4_panel(const int4_problem<Words>& p, gemm_part at, int4_tile t,
                         const std::byte* next) {
  alignas(64) float sums[int4_tile::rows * int4_tile::columns];
  t.a_row = p.a.row, t.row_sums_row = p.a.sums_row, t.sums = sums;
  for (std::ptrdiff_t m = at.m0; m < at.m1;) {
    const int rows = int4_rows(at.m1 - m);
    t.a = p.a.codes + m * p.a.row, t.row_sums = p.a.sums + m * p.a.sums_row;
    if (next != nullptr && m == at.m0) {
      multiply_int4_rows<1>(rows, t, next);
    } else {
      multiply_int4_rows<0>(rows, t, nullptr);
    }
    for (int i = 0; i < rows; ++i) finish_int4(p, m + i, at.n0, sums + i * int4_tile::columns);
    m += rows;
  }
}

template <class Words>
void multiply_int4_few_part(const int4_problem<Words>& p, gemm_part part) {
  constexpr std::ptrdiff_t lanes = word_block::lanes;
  alignas(64) float sums[int4_few::rows * int4_tile::columns];
  int4_tile t{};
  t.a_row = p.a.row, t.row_sums_row = p.a.sums_row;
  t.steps = p.b.words_deep, t.steps_each = p.b.group / 8;
  for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += int4_tile::columns) {
    for (std::ptrdiff_t m = part.m0; m < part.m1;) {
      const int tile = int4_few::tile(part.m1 - m);
      const auto rows = static_cast<int>(std::min<std::ptrdiff_t>(tile, part.m1 - m));
      t.a = p.a.codes + m * p.a.row, t.row_sums = p.a.sums + m * p.a.sums_row;
      for (std::ptrdiff_t j = 0; j < int4_tile::columns; j += lanes) {
        t.b = reinterpret_cast<const std::byte*>(p.b.data + (n0 + j) * p.b.words_deep);
        t.sums = sums + j;
        multiply_int4_few(tile, p.b, n0 + j, t);
      }
      for (int i = 0; i < rows; ++i) finish_int4(p, m + i, n0, sums + i * int4_tile::columns);
      m += rows;
    }
  }
}

template <class Words>
void multiply_int4_part(const int4_problem<Words>& p, gemm_part part) {
  constexpr std::ptrdiff_t columns = int4_tile::columns;
  if constexpr (int4_few::most > 0) {
    if (part.m1 - part.m0 <= int4_few::most) return multiply_int4_few_part(p, part);
  }
  for (std::ptrdiff_t m0 = part.m0; m0 < part.m1; m0 += dot_block) {
    for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += columns) {
      int4_tile t{};
      decode_int4(p.b, n0, t);
      const std::ptrdiff_t after = n0 + columns;
      const std::byte* next = nullptr;
      if (after < part.n1 && after % word_block::lanes == 0) {
        next = reinterpret_cast<const std::byte*>(p.b.data + after * p.b.words_deep);
      }
      multiply_int4_panel(p, {m0, std::min(part.m1, m0 + dot_block), n0, part.n1}, t, next);
    }
  }
}

// Experts' products share one parallel region.
template <class Words>
void gemm_int4(thread_pool& pool, std::span<const int4_problem<Words>> problems) {
  constexpr gemm_shape tile{int4_tile::rows, int4_tile::columns, 0};
  const auto split = [&](const int4_problem<Words>& p) {
    if (runs_serially(pool, {p.shape.m, p.shape.n, p.shape.k / 4})) return gemm_split{1, 1};
    return split_of((p.shape.m + tile.m - 1) / tile.m, (p.shape.n + tile.n - 1) / tile.n,
                    4 * pool.threads());
  };
  std::ptrdiff_t tasks = 0;
  for (const auto& p : problems) tasks += split(p).rows * split(p).columns;
  const auto run = [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) {
        return multiply_int4_part(p, part_of(p.shape, tile, parts, task));
      }
      task -= parts.rows * parts.columns;
    }
  };
  if (tasks == 1) return run(0);
  pool.parallel(tasks, run);
}

}  // namespace deepseek::kernels
