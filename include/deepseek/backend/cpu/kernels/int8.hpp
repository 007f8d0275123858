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
#include <span>

#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/backend/cpu/thread_pool.hpp"
#include "deepseek/core/error.hpp"
#include "deepseek/quant/int8_layout.hpp"

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t most_int8_depth = int8_layout::deepest;

struct int8_tile {
  static constexpr int width = simd::pack<float>::width;
  static constexpr int columns = 2 * width;
  static constexpr int rows = simd::register_count == 32 ? 12 : 4;
};
static_assert(int8_layout::panel % int8_tile::columns == 0);

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
  gemm_shape shape;
  const std::uint8_t* x;  // [m, padded_depth(k)]
  std::ptrdiff_t x_row;
  row_quantization rows;
  const std::int8_t* panels;
  const std::int32_t* sums;  // [n]
  const float* scales;       // [n]
  const float* bias;         // [n] or null
  float* y;
  std::ptrdiff_t y_row;
};

// Integers of one row become floats: vector j of the panel whose first column is n0.
DEEPSEEK_INLINE void finish_int8(const int8_problem& p, std::ptrdiff_t m, std::ptrdiff_t n,
                                 simd::vector<std::int32_t> acc) {
  using pack = simd::pack<float>;
  const std::ptrdiff_t rest = p.shape.n - n;
  if (rest <= 0) return;
  simd::vector<std::int32_t> sums{};
  if (rest >= int8_tile::width) {
    __builtin_memcpy(&sums, p.sums + n, sizeof sums);
  } else {
    __builtin_memcpy(&sums, p.sums + n, static_cast<std::size_t>(rest) * sizeof(std::int32_t));
  }
  const pack value{__builtin_convertvector(acc - p.rows.zero[m * p.rows.step] * sums, pack::raw)};
  const pack scale =
      pack::load_up_to(p.scales + n, rest) * pack::broadcast(p.rows.scale[m * p.rows.step]);
  const pack bias = p.bias == nullptr ? pack::zero() : pack::load_up_to(p.bias + n, rest);
  simd::fma(value, scale, bias).store_up_to(p.y + m * p.y_row + n, rest);
}

template <int Rows>
__attribute__((noinline)) void multiply_int8_tile(const int8_problem& p, std::ptrdiff_t m,
                                                  std::ptrdiff_t n) {
  using words = simd::vector<std::int32_t>;
  constexpr int width = int8_tile::width;
  words acc[Rows * 2];
  simd::unrolled<Rows * 2>([&](auto q) __attribute__((always_inline)) { acc[q] = words{}; });
  const std::uint8_t *a0 = p.x + m * p.x_row, *a1 = a0 + 4 * p.x_row, *a2 = a1 + 4 * p.x_row;
  const std::ptrdiff_t row = p.x_row, row3 = 3 * row;
  const int8_layout at{p.shape.n, p.shape.k};
  const std::int8_t* b = p.panels + at.at(n, 0);
  const std::ptrdiff_t b_step = at.group_step(n);
  for (std::ptrdiff_t k = p.shape.k; k > 0; k -= 4) {
    if constexpr (Rows <= 4) {  // few rows wait for memory
      __builtin_prefetch(b + 4096);
      __builtin_prefetch(b + 4096 + sizeof(words));
    }
    words right[2];
    __builtin_memcpy(right, b, sizeof right);
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      const std::uint8_t* group = i < 4 ? a0 : i < 8 ? a1 : a2;
      std::int32_t four;
      __builtin_memcpy(&four, group + (i % 4 == 3 ? row3 : (i % 4) * row), 4);
      const words left = four - words{};
      acc[2 * i] = simd::dot_bytes(acc[2 * i], left, right[0]);
      acc[2 * i + 1] = simd::dot_bytes(acc[2 * i + 1], left, right[1]);
    });
    a0 += 4;
    if constexpr (Rows > 4) a1 += 4;
    if constexpr (Rows > 8) a2 += 4;
    b += b_step;
  }
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    finish_int8(p, m + i, n, acc[2 * i]);
    finish_int8(p, m + i, n + width, acc[2 * i + 1]);
  });
}

// Multiplies as many rows at once as are compiled and left; returns how many.
inline std::ptrdiff_t multiply_int8_rows(const int8_problem& p, std::ptrdiff_t m, std::ptrdiff_t n,
                                         std::ptrdiff_t left) {
  constexpr int most = int8_tile::rows;
  if (left >= most) return multiply_int8_tile<most>(p, m, n), most;
  if (most > 8 && left >= 8) return multiply_int8_tile < most < 8 ? most : 8 > (p, m, n), 8;
  if (most > 4 && left >= 4) return multiply_int8_tile<4>(p, m, n), 4;
  if (left >= 2) return multiply_int8_tile<2>(p, m, n), 2;
  return multiply_int8_tile<1>(p, m, n), 1;
}

inline void multiply_int8_part(const int8_problem& p, gemm_part part) {
  constexpr std::ptrdiff_t block = 16 * int8_tile::rows;
  for (std::ptrdiff_t m0 = part.m0; m0 < part.m1; m0 += block) {
    const std::ptrdiff_t m1 = std::min(part.m1, m0 + block);
    for (std::ptrdiff_t n = part.n0; n < part.n1; n += int8_tile::columns) {
      for (std::ptrdiff_t m = m0; m < m1;) m += multiply_int8_rows(p, m, n, m1 - m);
    }
  }
}

inline void gemm_int8(thread_pool& pool, const int8_problem& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, {p.shape.m, p.shape.n, p.shape.k / 4}))
    return multiply_int8_part(p, {0, p.shape.m, 0, p.shape.n});
  const std::ptrdiff_t strips = (p.shape.m + int8_tile::rows - 1) / int8_tile::rows;
  const gemm_split split = split_of(
      strips, (p.shape.n + int8_tile::columns - 1) / int8_tile::columns, 4 * pool.threads());
  pool.parallel(split.rows * split.columns, [&](std::ptrdiff_t task) {
    multiply_int8_part(p, part_of(p.shape, {int8_tile::rows, int8_tile::columns, 0}, split, task));
  });
}

// Independent products in one parallel region: the segments of experts.
inline void gemm_int8(thread_pool& pool, std::span<const int8_problem> problems) {
  constexpr std::ptrdiff_t most_rows = 16 * int8_tile::rows, most_columns = 4 * int8_layout::panel;
  const auto split = [](const int8_problem& p) {
    return gemm_split{(p.shape.m + most_rows - 1) / most_rows,
                      (p.shape.n + most_columns - 1) / most_columns};
  };
  std::ptrdiff_t tasks = 0, work = 0;
  for (const auto& p : problems) {
    tasks += split(p).rows * split(p).columns;
    work += p.shape.m * p.shape.n * padded_depth(p.shape.k) / 4;
  }
  if (work <= serial_product) {
    for (const auto& p : problems) multiply_int8_part(p, {0, p.shape.m, 0, p.shape.n});
    return;
  }
  pool.parallel(tasks, [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) {
        return multiply_int8_part(
            p, part_of(p.shape, {int8_tile::rows, int8_tile::columns, 0}, parts, task));
      }
      task -= parts.rows * parts.columns;
    }
  });
}

}  // namespace deepseek::kernels
