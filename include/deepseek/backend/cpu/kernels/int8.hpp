// SPDX-License-Identifier: Apache-2.0
// y[m, n] = fma(float(sum_k qx[m, k] qw[n, k] - zero_m sum_k qw[n, k]), scale_m scale_n, bias[n]).
// qx unsigned bytes, qw signed bytes in -127 .. 127, sums in exact 32-bit integers, one rounding to
// float, one product of scales, one fma. Weights are packed once in the
// order of int8_layout, with the sum of each column. Errors: invalid_argument where k >
// 66311 (255 * 127 * k would leave 32 bits) or a weight is -128. Integers have no order of
// summation: same bits for every thread count and row position.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "deepseek/backend/cpu/kernels/gemm_dot.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/thread_pool.hpp"
#include "deepseek/core/error.hpp"
#include "deepseek/quant/int8_layout.hpp"

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t most_int8_depth = int8_layout::deepest;

using int8_form = std::conditional_t<simd::has_tiles, byte_tiles, byte_fours>;

static_assert(int8_layout::panel % dot_size<byte_fours>::columns == 0 &&
              int8_layout::panel == dot_size<byte_tiles>::columns);

// Bytes of a row of qx that the product reads: k filled up to whole groups of four (their value
// does not matter).
constexpr std::ptrdiff_t padded_depth(std::ptrdiff_t k) {
  return int8_layout{1, k}.depth();
}
constexpr std::ptrdiff_t int8_panels(std::ptrdiff_t n) {
  return (n + int8_layout::panel - 1) / int8_layout::panel;
}

struct int8_matrix {
  const std::int8_t* data;  // [n, k]
  std::ptrdiff_t row, n, k;
};

// Returns the smallest weight of the panel.
inline int pack_int8_panel(int8_matrix w, std::ptrdiff_t panel, std::int8_t* out,
                           std::int32_t* sums) {
  const int8_layout at{w.n, w.k};
  const std::ptrdiff_t first = panel * int8_layout::panel;
  int least = 0;
  for (std::ptrdiff_t n = first; n < std::min(w.n, first + int8_layout::panel); ++n) {
    sums[n] = 0;
    for (std::ptrdiff_t k = 0; k < w.k; ++k) {
      const std::int8_t q = w.data[n * w.row + k];
      out[at.at(n, k)] = q;
      sums[n] += q;
      least = std::min<int>(least, q);
    }
  }
  return least;
}

// panels [int8_layout::size()], sums [n].
inline void pack_int8(thread_pool& pool, int8_matrix w, std::int8_t* panels, std::int32_t* sums) {
  require(w.k <= most_int8_depth, error_code::invalid_argument, "int8 weights: k is ", w.k,
          ", more than ", most_int8_depth,
          " products of bytes do not fit 32 bits; split the layer");
  std::fill_n(panels, int8_layout{w.n, w.k}.size(), std::int8_t(0));
  pool.parallel(int8_panels(w.n), [&](std::ptrdiff_t p) {
    const int least = pack_int8_panel(w, p, panels, sums);
    require(least > -128, error_code::invalid_argument,
            "int8 weights: one of them is -128; symmetric weights lie in -127 .. 127");
  });
}

// One scale and zero point for all rows (step 0) or one for each (step 1).
struct row_quantization {
  const float* scale;
  const std::int32_t* zero;
  std::ptrdiff_t step;
};

struct int8_problem {
  using form = int8_form;
  static constexpr bool fetches = true;

  gemm_shape shape;
  const std::uint8_t* x;  // [m, padded_depth(k)]
  std::ptrdiff_t x_row;
  row_quantization rows;
  const std::int8_t* panels;
  const std::int32_t* column_sums;  // [n]
  const float* scales;              // [n]
  const float* bias;                // [n] or null
  float* y;
  std::ptrdiff_t y_row;
  const std::uint32_t* words = nullptr;  // rows of x as word_row() says, where the tile takes those

  // What gemm_dot.hpp asks for.
  const std::byte* left(std::ptrdiff_t m) const {
    if constexpr (form::parts == 2)
      return reinterpret_cast<const std::byte*>(words) + m * row_bytes();
    return reinterpret_cast<const std::byte*>(x + m * x_row);
  }
  std::ptrdiff_t row_bytes() const { return form::parts == 2 ? word_row_bytes() : x_row; }
  // Rows of words lie an odd number of cache lines apart: they do not evict each other.
  std::ptrdiff_t word_row_bytes() const {
    constexpr std::ptrdiff_t line = 64;
    return ((2 * padded_depth(shape.k) + line - 1) / line | 1) * line;
  }
  const std::byte* weights(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t) const {
    const int8_layout at{shape.n, shape.k};
    return reinterpret_cast<const std::byte*>(panels + at.at(n0, 0) + k0 * at.group_step(n0));
  }
  std::ptrdiff_t weight_step(std::ptrdiff_t n0) const {
    return int8_layout{shape.n, shape.k}.group_step(n0);
  }
  const std::byte* stored(std::ptrdiff_t n0, std::ptrdiff_t k0) const { return weights(n0, k0, 0); }
  std::ptrdiff_t stored_step(std::ptrdiff_t n0) const { return weight_step(n0); }
  auto open(std::ptrdiff_t m0, std::ptrdiff_t, std::ptrdiff_t n0, std::ptrdiff_t) const;
  void finish(tile_memory<std::int32_t> sums, gemm_part at) const;
};

// A register of columns of y, from row m0 on: integers become floats. What all rows share is read
// once.
struct int8_column {
  using pack = simd::pack<float>;
  const int8_problem& p;
  std::ptrdiff_t m0, n, rest;  // columns of y from n on: none left where rest <= 0
  simd::vector<std::int32_t> sums{};
  pack scales = pack::zero(), bias = pack::zero();

  DEEPSEEK_INLINE int8_column(const int8_problem& problem, std::ptrdiff_t m, std::ptrdiff_t column)
      : p(problem), m0(m), n(column), rest(problem.shape.n - column) {
    if (rest >= pack::width) [[likely]] {
      __builtin_memcpy(&sums, p.column_sums + n, sizeof sums);
      scales = pack::load(p.scales + n);
      if (p.bias != nullptr) bias = pack::load(p.bias + n);
    } else if (rest > 0) {
      for (int j = 0; j < rest; ++j) sums[j] = p.column_sums[n + j];
      scales = pack::load_up_to(p.scales + n, rest);
      if (p.bias != nullptr) bias = pack::load_up_to(p.bias + n, rest);
    }
  }
  template <bool PastCaches = false>
  DEEPSEEK_INLINE void end(int i, simd::vector<std::int32_t> acc) const {
    const std::ptrdiff_t m = m0 + i, r = m * p.rows.step;
    const pack value{__builtin_convertvector(acc - p.rows.zero[r] * sums, pack::raw)};
    const pack y = simd::fma(value, scales * pack::broadcast(p.rows.scale[r]), bias);
    if (rest >= pack::width) [[likely]] {
      float* const to = p.y + m * p.y_row + n;
      PastCaches ? store_past_caches(to, y) : y.store(to);
    } else if (rest > 0) {
      y.store_up_to(p.y + m * p.y_row + n, rest);
    }
  }
};

// Sums from row m0 and column n0 on.
struct int8_sums {
  const int8_problem& p;
  std::ptrdiff_t m0, n0;

  static constexpr bool continues() { return false; }
  static simd::vector<std::int32_t> begin(int, int) { return simd::vector<std::int32_t>{}; }
  DEEPSEEK_INLINE int8_column column(int j) const {
    return {p, m0, n0 + j * dot_size<byte_fours>::width};
  }
  int8_sums sums(std::ptrdiff_t row, std::ptrdiff_t) const { return {p, m0 + row, n0}; }
  void close() const {}
};
inline auto int8_problem::open(std::ptrdiff_t m0, std::ptrdiff_t, std::ptrdiff_t n0,
                               std::ptrdiff_t) const {
  return int8_sums{*this, m0, n0};
}

inline void int8_problem::finish(tile_memory<std::int32_t> sums, gemm_part at) const {
  const bool past_caches = passes_caches(at.m1 - at.m0, y_row);
  for (std::ptrdiff_t n = at.n0; n < at.n1; n += simd::pack<float>::width) {
    const int8_column to{*this, at.m0, n};
    for (std::ptrdiff_t i = 0; i < at.m1 - at.m0; ++i) {
      simd::vector<std::int32_t> acc;
      __builtin_memcpy(&acc, sums.data + i * sums.row + n - at.n0, sizeof acc);
      past_caches ? to.end<true>(static_cast<int>(i), acc) : to.end(static_cast<int>(i), acc);
    }
  }
  if (past_caches) simd::end_of_streams();
}

// Of each four bytes the even ones as two words, then the odd ones: n bytes, whole fours.
inline void make_word_row(const std::uint8_t* from, std::ptrdiff_t n, std::uint32_t* out) {
  for (std::ptrdiff_t i = 0; i < n; i += 4) {
    std::uint32_t four;
    __builtin_memcpy(&four, from + i, sizeof four);
    out[i / 2] = four & 0x00ff00ffU;
    out[i / 2 + 1] = (four >> 8) & 0x00ff00ffU;
  }
}

struct byte_words;
template <class P>
struct problem_copies;

// The rows of all problems as words, in scratch of the calling thread.
template <class P>
void make_word_rows(thread_pool& pool, std::span<P> problems) {
  std::ptrdiff_t bytes = 0;
  for (const P& p : problems) bytes += p.shape.m * p.word_row_bytes();
  auto* to = scratch<byte_words, std::uint32_t>(static_cast<std::size_t>(bytes) / 4);
  for (P& p : problems) {
    const std::ptrdiff_t pitch = p.word_row_bytes() / 4;
    p.words = to;
    const auto rows = [&p, to, pitch](std::ptrdiff_t first, std::ptrdiff_t last) {
      for (std::ptrdiff_t m = first; m < last; ++m) {
        make_word_row(p.x + m * p.x_row, padded_depth(p.shape.k), to + m * pitch);
      }
    };
    constexpr std::ptrdiff_t each = 32;
    if (p.shape.m <= each) {
      rows(0, p.shape.m);
    } else {
      pool.parallel((p.shape.m + each - 1) / each, [&](std::ptrdiff_t task) {
        rows(task * each, std::min(p.shape.m, (task + 1) * each));
      });
    }
    to += p.shape.m * pitch;
  }
}

// Independent products in one parallel region: the segments of experts. Templates so that only
// programs that multiply integers compile the tiles.
template <class P = int8_problem>
void gemm_int8(thread_pool& pool, std::span<const P> problems) {
  if constexpr (P::form::parts == 2) {
    P* const copies = scratch<problem_copies<P>, P>(problems.size());
    std::uninitialized_copy(problems.begin(), problems.end(), copies);
    make_word_rows(pool, std::span<P>(copies, problems.size()));
    problems = {copies, problems.size()};
  }
  gemm_dot(pool, problems);
}
template <class P = int8_problem>
void gemm_int8(thread_pool& pool, P p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if constexpr (P::form::parts == 2) make_word_rows(pool, std::span<P>(&p, 1));
  gemm_dot(pool, p);
}

}  // namespace deepseek::kernels
