// SPDX-License-Identifier: Apache-2.0
// C[m, n] = or += A[m, k] B[k, n] where B, a layer's weights, was packed once into panels: [n /
// columns][k][columns]. Same bits as gemm() on the unpacked matrix for every shape. One row runs at
// the speed of the memory that holds the panels. The panels' layout follows the instruction set of
// the build: pack after loading, never store them in a file.
#pragma once

#include <cstddef>

#include "deepseek/backend/cpu/kernels/gemm.hpp"

namespace deepseek::kernels {

// Elements that the panels of B[k, n] take.
template <class T>
constexpr std::ptrdiff_t packed_size(std::ptrdiff_t k, std::ptrdiff_t n) {
  return panels_of<T>(n) * tile_size<T>::columns * k;
}

// Weights W[n, k] with contiguous rows are B = {W, 1, k}.
template <class T>
void pack_weights(thread_pool& pool, operand<T> b, gemm_shape s, T* panels) {
  constexpr std::ptrdiff_t columns = tile_size<T>::columns;
  pool.parallel(panels_of<T>(s.n), [&](std::ptrdiff_t p) {
    const std::ptrdiff_t j = p * columns;
    pack_panel(b.from(0, j), s.k, static_cast<int>(std::min(columns, s.n - j)), panels + j * s.k);
  });
}

template <class T>
struct packed_problem {
  gemm_shape shape;
  operand<T> a;
  const T* panels;
  gemm_output<T> c;
};

// On the calling thread. Few rows take all of k at once: the panels then stream through once, in
// order.
template <class T>
void tile_gemm_packed(const packed_problem<T>& p, gemm_part part) {
  constexpr std::ptrdiff_t columns = tile_size<T>::columns;
  const std::ptrdiff_t rows = part.m1 - part.m0, n = part.n1 - part.n0, depth = p.shape.k;
  const std::ptrdiff_t most_k =
      rows <= tile_size<T>::rows ? std::max<std::ptrdiff_t>(depth, 1) : gemm_blocks<T>::k;
  const gemm_output<T> c = p.c.at(part.m0, part.n0);
  tile_operands<T> o{};
  o.c = c.data, o.c_row = c.row, o.from = c.from, o.b_step = columns;
  for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < depth; k0 += most_k) {
    o.b = p.panels + part.n0 * depth + k0 * columns;
    multiply_block({rows, n, std::min(most_k, depth - k0)}, p.a.from(part.m0, k0), o,
                   depth * columns);
    o.from = start::from_c;
  }
  finish(c.data, c.row, rows, n, c.then);
}

template <class T>
void gemm_packed(thread_pool& pool, const packed_problem<T>& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, p.shape)) return tile_gemm_packed(p, {0, p.shape.m, 0, p.shape.n});
  const gemm_shape tile{tile_size<T>::rows, tile_size<T>::columns, 0};
  const gemm_split split = split_of<T>(p.shape, pool.threads(), 4 * pool.threads());
  pool.parallel(split.rows * split.columns, [&](std::ptrdiff_t task) {
    tile_gemm_packed(p, part_of(p.shape, tile, split, task));
  });
}

}  // namespace deepseek::kernels
