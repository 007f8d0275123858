// SPDX-License-Identifier: Apache-2.0
// C[m, n] = or += A[m, k] B[k, n] on raw pointers with any strides, T in {float, double},
// accumulated in T; C has contiguous columns. With start::from_c the chain of an element begins at
// what C holds, else at zero. Then y = activation(c + bias) + residual (epilogue.hpp). k = 0: C is
// zero (or kept) before that step. C must not overlap A or B. Determinism: element (i, j) is one
// fma chain over k in ascending order (g++ and clang, all shapes, strides, tile positions, thread
// counts): blocks of k continue it from exact stores. Source: Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "deepseek/backend/cpu/kernels/epilogue.hpp"
#include "deepseek/backend/cpu/kernels/gemm_pack.hpp"
#include "deepseek/backend/cpu/kernels/gemm_rows.hpp"
#include "deepseek/backend/cpu/kernels/gemm_tile.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/kernels/turned_rows.hpp"
#include "deepseek/backend/cpu/thread_pool.hpp"

namespace deepseek::kernels {

struct gemm_shape {
  std::ptrdiff_t m, n, k;
};

template <class T>
struct gemm_output {
  T* data;
  std::ptrdiff_t row;
  start from = start::zero;
  epilogue<T> then = {};

  gemm_output at(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return {data + i * row + j, row, from, then.from(i, j)};
  }
};

template <class T>
struct gemm_problem {
  gemm_shape shape;
  operand<T> a, b;
  gemm_output<T> c;
};

// Elements of k, n and strips of m that are worked on together: a panel stays in the first cache
// level, a block of A and of B in the second.
template <class T>
struct gemm_blocks {
  static constexpr std::ptrdiff_t k = 1024 / static_cast<std::ptrdiff_t>(sizeof(T));
  static constexpr std::ptrdiff_t n = 16 * tile_size<T>::columns;
  static constexpr std::ptrdiff_t m = 16 * tile_size<T>::rows;
};

struct packed_rows;
struct packed_columns;

// One block: all panels of b, [k][columns] each at panel_step elements, against m rows of a.
template <class T>
void multiply_block(gemm_shape s, operand<T> a, tile_operands<T> o, std::ptrdiff_t panel_step) {
  constexpr int rows = tile_size<T>::rows, columns = tile_size<T>::columns;
  const std::ptrdiff_t most_strips = (std::min(s.m, gemm_blocks<T>::m) + rows - 1) / rows;
  T* const store =
      scratch<packed_rows, T>(static_cast<std::size_t>(most_strips * strip_size<T>(s.k)));
  const T* const b = o.b;
  T* const c = o.c;
  o.steps = s.k;
  for (std::ptrdiff_t m0 = 0; m0 < s.m; m0 += gemm_blocks<T>::m) {
    const std::ptrdiff_t m1 = std::min(s.m, m0 + gemm_blocks<T>::m);
    strip<T> strips[gemm_blocks<T>::m / rows] = {};
    pack_strips(a.from(m0, 0), s.k, m1 - m0, store, strips);
    for (std::ptrdiff_t j = 0; j < s.n; j += columns) {
      o.b = b + j / columns * panel_step;
      for (std::ptrdiff_t i = m0; i < m1; i += rows) {
        const strip<T>& left = strips[(i - m0) / rows];
        o.a = left.data, o.a_row = left.row, o.a_step = left.step;
        o.c = c + i * o.c_row + j;
        multiply_tile(o, static_cast<int>(std::min<std::ptrdiff_t>(rows, m1 - i)),
                      static_cast<int>(std::min<std::ptrdiff_t>(columns, s.n - j)));
      }
    }
  }
}

// More rows than a tile has: each panel of B is packed once for all of them.
template <class T>
void tile_gemm_rows(gemm_shape s, operand<T> a, operand<T> b, gemm_output<T> c) {
  constexpr int columns = panel_size<T>::columns;
  T* const panel =
      scratch<packed_columns, T>(static_cast<std::size_t>(std::min(s.k, panel_depth<T>) * columns));
  tile_operands<T> o{};
  o.c_row = c.row, o.from = c.from, o.b = panel, o.b_step = columns;
  for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < s.k; k0 += panel_depth<T>) {
    o.steps = std::min(panel_depth<T>, s.k - k0);
    const strips_of<T> rows(a.from(0, k0), s.m, o.steps);
    for (std::ptrdiff_t n0 = 0; n0 < s.n; n0 += columns) {
      const auto n = static_cast<int>(std::min<std::ptrdiff_t>(columns, s.n - n0));
      pack_panel<T, columns>(b.from(k0, n0), o.steps, n, panel);
      o.c = c.data + n0;
      multiply_rows(rows, o, n, fetch_nothing);
      if (k0 + o.steps >= s.k) finish(o.c, c.row, s.m, n, c.then.from(0, n0));
    }
    o.from = start::from_c;
  }
}

// Whether so few rows meet columns that are contiguous along k in registers.
template <class T>
constexpr bool rows_turn(std::ptrdiff_t m) {
  return m <= most_turned_rows && m <= tile_size<T>::rows;
}

// rows_turn() rows, columns of B contiguous along k.
template <class T>
void turned_gemm(gemm_shape s, operand<T> a, operand<T> b, gemm_output<T> c) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const std::ptrdiff_t column = b.column * size;
  multiply_turned_rows<element_words<T>>(
      {as_bytes(a.data), a.row * size, a.column * size, static_cast<int>(s.m)},
      {as_bytes(b.data), column, s.n, s.k * size, turned_ahead(column)}, [&](std::ptrdiff_t j) {
        return sums_in_c<T>{c.data + j, c.row, s.n - j, c.from};
      });
  finish(c.data, c.row, s.m, s.n, c.then);
}

// The whole product on the calling thread; for use inside tasks and for small products.
template <class T>
void tile_gemm(gemm_shape s, operand<T> a, operand<T> b, gemm_output<T> c) {
  constexpr std::ptrdiff_t columns = tile_size<T>::columns, most_k = gemm_blocks<T>::k;
  if (s.m <= 0 || s.n <= 0) return;
  if (s.m > tile_size<T>::rows) return tile_gemm_rows(s, a, b, c);
  if (rows_turn<T>(s.m) && b.row == 1 && b.column != 1) return turned_gemm(s, a, b, c);
  const std::ptrdiff_t most_n = s.m <= tile_size<T>::rows ? columns : gemm_blocks<T>::n;
  T* const panels = scratch<packed_columns, T>(static_cast<std::size_t>(
      std::min(s.k, most_k) * columns * panels_of<T>(std::min(s.n, most_n))));
  for (std::ptrdiff_t n0 = 0; n0 < s.n; n0 += most_n) {
    const std::ptrdiff_t n = std::min(most_n, s.n - n0);
    tile_operands<T> o{};
    o.c = c.data + n0, o.c_row = c.row, o.from = c.from;
    for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < s.k; k0 += most_k) {
      const std::ptrdiff_t k = std::min(most_k, s.k - k0);
      const bool in_place = b.column == 1 && n == columns && s.m <= tile_size<T>::rows;
      if (!in_place) pack_panels(b.from(k0, n0), k, n, panels);
      o.b = in_place ? b.at(k0, n0) : panels;
      o.b_step = in_place ? b.row : columns;
      multiply_block({s.m, n, k}, a.from(0, k0), o, k * columns);
      o.from = start::from_c;
    }
    finish(c.data + n0, c.row, s.m, n, c.then.from(0, n0));
  }
}

// How a product is cut into tasks: rows x columns parts of whole tiles.
struct gemm_split {
  std::ptrdiff_t rows, columns;
};

// About `wanted` parts, columns first: a panel of B is then packed, decoded or fetched once for all
// rows.
inline gemm_split split_of(std::ptrdiff_t strips, std::ptrdiff_t panels, std::ptrdiff_t wanted) {
  const std::ptrdiff_t columns = std::clamp<std::ptrdiff_t>(panels, 1, wanted);
  return {std::clamp<std::ptrdiff_t>(wanted / columns, 1, std::max<std::ptrdiff_t>(strips, 1)),
          columns};
}

// The unit in which a product is cut.
template <class T>
gemm_shape part_unit(gemm_shape s) {
  if (s.m > tile_size<T>::rows) return {panel_size<T>::rows, panel_size<T>::columns, 0};
  return {tile_size<T>::rows, tile_size<T>::columns, 0};
}
template <class T>
gemm_split split_of(gemm_shape s, std::ptrdiff_t wanted) {
  const gemm_shape unit = part_unit<T>(s);
  return split_of((s.m + unit.m - 1) / unit.m, (s.n + unit.n - 1) / unit.n, wanted);
}

// Parts of each of `products` products that share a region: at least 4, and 4 a thread in all.
inline std::ptrdiff_t parts_each(const thread_pool& pool, std::size_t products) {
  const auto count = std::max<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(products), 1);
  return std::max<std::ptrdiff_t>(4, (4 * pool.threads() + count - 1) / count);
}

// Rows m0 .. m1 and columns n0 .. n1.
struct gemm_part {
  std::ptrdiff_t m0, m1, n0, n1;
};

// Part `task` of m x n cut evenly in units of tile_rows x tile_columns.
inline gemm_part part_of(gemm_shape s, gemm_shape tile, gemm_split split, std::ptrdiff_t task) {
  const std::ptrdiff_t strips = (s.m + tile.m - 1) / tile.m, panels = (s.n + tile.n - 1) / tile.n;
  const std::ptrdiff_t r = task / split.columns, q = task % split.columns;
  return {strips * r / split.rows * tile.m, std::min(s.m, strips * (r + 1) / split.rows * tile.m),
          panels * q / split.columns * tile.n,
          std::min(s.n, panels * (q + 1) / split.columns * tile.n)};
}

template <class T>
void run_part(const gemm_problem<T>& p, gemm_split split, std::ptrdiff_t task) {
  const auto [m0, m1, n0, n1] = part_of(p.shape, part_unit<T>(p.shape), split, task);
  tile_gemm({m1 - m0, n1 - n0, p.shape.k}, p.a.from(m0, 0), p.b.from(0, n0), p.c.at(m0, n0));
}

// Below this many multiplications waking a thread costs more than it saves.
inline constexpr std::ptrdiff_t serial_product = 1 << 16;

inline bool runs_serially(const thread_pool& pool, gemm_shape s) {
  return pool.threads() == 1 || s.m * s.n * std::max<std::ptrdiff_t>(s.k, 1) <= serial_product;
}

template <class T>
void gemm(thread_pool& pool, const gemm_problem<T>& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, p.shape)) return tile_gemm(p.shape, p.a, p.b, p.c);
  const gemm_split split = split_of<T>(p.shape, 4 * pool.threads());
  pool.parallel(split.rows * split.columns, [&](std::ptrdiff_t task) { run_part(p, split, task); });
}

// Independent products in one parallel region: the segments of experts, the heads of a batch.
template <class T>
void gemm(thread_pool& pool, std::span<const gemm_problem<T>> problems) {
  const auto count = static_cast<std::ptrdiff_t>(problems.size());
  const std::ptrdiff_t wanted = count == 0 ? 1 : (8 * pool.threads() + count - 1) / count;
  const auto split = [&](const gemm_problem<T>& p) {
    return runs_serially(pool, p.shape) ? gemm_split{1, 1}
                                        : split_of<T>(p.shape, std::max<std::ptrdiff_t>(4, wanted));
  };
  std::ptrdiff_t tasks = 0;
  for (const auto& p : problems) tasks += split(p).rows * split(p).columns;
  pool.parallel(tasks, [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) return run_part(p, parts, task);
      task -= parts.rows * parts.columns;
    }
  });
}

}  // namespace deepseek::kernels
