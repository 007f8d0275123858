// SPDX-License-Identifier: Apache-2.0
// C[m, n] = sum over blocks j of 128 steps of s[m, j] S[n / 128, j] (A_j W_j^T)[m, n]: A the values
// of codes as floats with unit steps, W in e4m3. A block's product is one fma chain from zero, in
// the tiles of gemm(); one fma adds it to C. Same bits for every m, tile and number of threads.
// Panels of W are decoded once for all rows of a part.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/coded_weights.hpp"
#include "deepseek/backend/cpu/kernels/gemm_stored.hpp"

namespace deepseek::kernels {

struct fp8_problem {
  gemm_shape shape;
  operand<float> a;
  const float* a_scales;  // [m, blocks]
  std::ptrdiff_t a_scale_row;
  e4m3_rows b;
  gemm_output<float> c;
};

// c = fma(product, s S, c) for the rows and the columns of one panel.
inline void promote_block(const fp8_problem& p, gemm_part at, std::ptrdiff_t block,
                          const float* product) {
  using pack = simd::pack<float>;
  const float of_weights = p.b.scales[at.n0 / e4m3_rows::group * p.b.scale_row + block];
  for (std::ptrdiff_t i = at.m0; i < at.m1; ++i) {
    const auto scale = pack::broadcast(p.a_scales[i * p.a_scale_row + block] * of_weights);
    const float* from = product + (i - at.m0) * tile_size<float>::columns;
    float* to = p.c.data + i * p.c.row + at.n0;
    for (std::ptrdiff_t j = 0; j < at.n1 - at.n0; j += pack::width) {
      const std::ptrdiff_t rest = at.n1 - at.n0 - j;
      simd::fma(pack::load_up_to(from + j, rest), scale, pack::load_up_to(to + j, rest))
          .store_up_to(to + j, rest);
    }
  }
}

struct fp8_panel;

inline void multiply_fp8_panel(const fp8_problem& p, gemm_part at) {
  constexpr std::ptrdiff_t rows = tile_size<float>::rows, columns = tile_size<float>::columns;
  static_assert(e4m3_rows::group % columns == 0);
  alignas(64) float product[rows * columns];
  float* const panel = scratch<fp8_panel, float>(e4m3_rows::group * columns);
  const float one = 1;
  e4m3_rows codes = p.b;
  codes.scales = &one, codes.scale_row = 0;
  for (std::ptrdiff_t i = at.m0; i < at.m1; ++i) {
    std::fill_n(p.c.data + i * p.c.row + at.n0, at.n1 - at.n0, 0.0F);
  }
  for (std::ptrdiff_t k0 = 0; k0 < p.shape.k; k0 += e4m3_rows::group) {
    const std::ptrdiff_t k = std::min(e4m3_rows::group, p.shape.k - k0);
    codes.data = p.b.data + k0;
    decode_panel(codes, {0, k, at.n0, columns}, panel);
    for (std::ptrdiff_t m = at.m0; m < at.m1; m += rows) {
      const std::ptrdiff_t m1 = std::min(at.m1, m + rows);
      tile_gemm<float>({m1 - m, columns, k}, p.a.from(m, k0), {panel, columns, 1},
                       {product, columns});
      promote_block(p, {m, m1, at.n0, at.n1}, k0 / e4m3_rows::group, product);
    }
  }
}

inline void multiply_fp8_part(const fp8_problem& p, gemm_part part) {
  constexpr std::ptrdiff_t columns = tile_size<float>::columns;
  for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += columns) {
    multiply_fp8_panel(p, {part.m0, part.m1, n0, std::min(part.n1, n0 + columns)});
  }
  const gemm_output<float> c = p.c.at(part.m0, part.n0);
  finish(c.data, c.row, part.m1 - part.m0, part.n1 - part.n0, c.then);
}

// Columns first: a weight is then decoded once for all rows.
inline void gemm_fp8(thread_pool& pool, const fp8_problem& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, p.shape)) return multiply_fp8_part(p, {0, p.shape.m, 0, p.shape.n});
  const gemm_split split{
      1, std::clamp<std::ptrdiff_t>(panels_of<float>(p.shape.n), 1, 8 * pool.threads())};
  pool.parallel(split.columns, [&](std::ptrdiff_t task) {
    multiply_fp8_part(p, part_of(p.shape, {p.shape.m, tile_size<float>::columns, 0}, split, task));
  });
}

}  // namespace deepseek::kernels
