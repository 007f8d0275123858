// SPDX-License-Identifier: Apache-2.0
// The innermost product of prepacked weights: C[rows, columns] = or += A[rows, steps] B[steps,
// columns] for one panel of B, stored step after step. Wider and lower than the tile of
// gemm_tile.hpp: three registers of weights meet up to eight rows, so that little is read for each
// multiply-add. While it computes it fetches memory that is needed next: ahead in the panel, or
// parts of the next panel. Every element is the chain c = fma(a[i,k], b[k,j], c), k ascending, of
// gemm_tile.hpp: same bits.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/kernels/gemm_tile.hpp"

namespace deepseek::kernels {

template <class T>
struct panel_size {
  static constexpr int width = simd::pack<T>::width;
  static constexpr int vectors = simd::register_count == 32 ? 3 : 2;
  static constexpr int rows = simd::register_count == 32 ? 8 : simd::has_fma ? 6 : 4;
  static constexpr int columns = vectors * width;
};

// What is fetched at each step: `lines` cache lines from `from` on, `step` bytes further at the
// next; less than a line where several strips share the fetching.
struct fetch_plan {
  int lines;
  const char* from;
  std::ptrdiff_t step = lines * line_bytes;
};
// Of one step.
inline constexpr int most_fetched_lines =
    std::max(1, panel_size<float>::vectors* simd::register_bytes / static_cast<int>(line_bytes));

template <class T, int Rows, int Vectors, int Lines>
__attribute__((noinline)) void multiply_panel_rows(const tile_operands<T>& o, fetch_plan next) {
  using simd::pack;
  constexpr int width = pack<T>::width;
  typename pack<T>::raw acc[Rows * Vectors];
  if (o.from == start::zero) {
    simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
      acc[q] = pack<T>::zero().v;
    });
  } else {
    simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
      acc[q] = pack<T>::load(o.c + (q / Vectors) * o.c_row + (q % Vectors) * width).v;
    });
  }
  const T *b = o.b, *a0 = o.a, *a1 = a0 + 4 * o.a_row;
  const char* fetch = next.from;
  const std::ptrdiff_t row = o.a_row, row3 = 3 * row, a_step = o.a_step;
  for (std::ptrdiff_t k = o.steps; k > 0; --k) {
    typename pack<T>::raw right[Vectors];
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      right[j] = pack<T>::load(b + j * width).v;
    });
    simd::unrolled<Lines>([&](auto i) __attribute__((always_inline)) {
      __builtin_prefetch(fetch + i * line_bytes, 0, 2);
    });
    fetch += Lines == 1 ? next.step : Lines * line_bytes;
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      const T* group = i < 4 ? a0 : a1;
      const auto left = pack<T>::broadcast(group[i % 4 == 3 ? row3 : (i % 4) * row]).v;
      simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
        acc[i * Vectors + j] = simd::native::fma(left, right[j], acc[i * Vectors + j]);
      });
    });
    a0 += a_step;
    if constexpr (Rows > 4) a1 += a_step;
    b += panel_size<T>::columns;
  }
  simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
    pack<T>{acc[q]}.store(o.c + (q / Vectors) * o.c_row + (q % Vectors) * width);
  });
}

// The smallest compiled number of rows that holds `rows`: few kernels, so that a program that only
// includes them compiles quickly.
template <class T>
constexpr int padded_panel_rows(int rows) {
  return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : panel_size<T>::rows;
}

template <class T, int Vectors, int Lines>
void multiply_panel_vectors(const tile_operands<T>& o, int padded, fetch_plan next) {
  switch (padded) {
    case 1:
      return multiply_panel_rows<T, 1, Vectors, Lines>(o, next);
    case 2:
      return multiply_panel_rows<T, 2, Vectors, Lines>(o, next);
    case 4:
      return multiply_panel_rows<T, 4, Vectors, Lines>(o, next);
    default:
      return multiply_panel_rows<T, panel_size<T>::rows, Vectors, Lines>(o, next);
  }
}

template <class T>
void multiply_whole_panel(const tile_operands<T>& o, int padded, fetch_plan next) {
  constexpr int vectors = panel_size<T>::vectors;
  switch (next.lines) {
    case 0:
      return multiply_panel_vectors<T, vectors, 0>(o, padded, next);
    case 1:
      return multiply_panel_vectors<T, vectors, 1>(o, padded, next);
    default:
      return multiply_panel_vectors<T, vectors, most_fetched_lines>(o, padded, next);
  }
}

// A must be readable for padded_panel_rows(rows) rows. The last panel of a matrix may need fewer
// registers.
template <class T>
void multiply_panel(const tile_operands<T>& o, int rows, int columns, fetch_plan next) {
  constexpr int full = panel_size<T>::columns, less = full - panel_size<T>::width;
  const int padded = padded_panel_rows<T>(rows);
  const auto multiply = [&](const tile_operands<T>& operands) {
    columns > less
        ? multiply_whole_panel(operands, padded, next)
        : multiply_panel_vectors<T, panel_size<T>::vectors - 1, 0>(operands, padded, next);
  };
  if (rows == padded && (columns == full || columns == less)) return multiply(o);
  alignas(64) T copy[panel_size<T>::rows * full];
  const auto count = static_cast<std::size_t>(columns) * sizeof(T);
  if (o.from == start::from_c) {
    __builtin_memset(copy, 0, sizeof copy);
    for (int i = 0; i < rows; ++i) __builtin_memcpy(copy + i * full, o.c + i * o.c_row, count);
  }
  tile_operands<T> inner = o;
  inner.c = copy;
  inner.c_row = full;
  multiply(inner);
  for (int i = 0; i < rows; ++i) __builtin_memcpy(o.c + i * o.c_row, copy + i * full, count);
}

}  // namespace deepseek::kernels
