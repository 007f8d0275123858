// SPDX-License-Identifier: Apache-2.0
// Few rows of A by columns of B that are contiguous along k, as a layer's plain weights are: blocks
// of columns turn in registers and are multiplied there, so that B streams through once and no
// panel is written. Every element is the fma chain over ascending k of gemm_tile.hpp: same bits.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/gemm_pack.hpp"

namespace deepseek::kernels {

// Beyond so many rows a panel is better written once for all of them.
inline constexpr int most_rows_turned = 8;

template <class T>
struct turned_product {
  const T* a;
  std::ptrdiff_t a_row, a_step;
  const T* b;  // column j at b + j * b_column, its steps are neighbours
  std::ptrdiff_t b_column, steps;
  T* c;
  std::ptrdiff_t c_row;
  start from;
};

// How far ahead columns are asked for, in elements: short ones are soon over, then it is those
// after the block that come next.
template <class T>
constexpr std::ptrdiff_t columns_ahead(std::ptrdiff_t column) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  return column > 0 && column * size <= 4096 ? simd::pack<T>::width * column : 512 / size;
}

// One register of columns, `there` of them in memory, by `rows` rows: where some of the tile's are
// missing, the last one counts again and is not stored.
template <class T, int Rows>
__attribute__((noinline)) void multiply_turned_columns(const turned_product<T>& p, int rows,
                                                       int there) {
  using pack = simd::pack<T>;
  constexpr int width = pack::width;
  typename pack::raw acc[Rows];
  std::ptrdiff_t row[Rows];
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    const std::ptrdiff_t at = std::min<int>(i, rows - 1);
    row[i] = at * p.a_row;
    acc[i] = p.from == start::zero ? pack::zero().v : pack::load_up_to(p.c + at * p.c_row, there).v;
  });
  const std::ptrdiff_t ahead = columns_ahead<T>(p.b_column);
  for (std::ptrdiff_t k = 0; k < p.steps; k += width) {
    const auto left = static_cast<int>(std::min<std::ptrdiff_t>(width, p.steps - k));
    const T* const b = p.b + k;
    const T* const a = p.a + k * p.a_step;
    pack r[width];
    const auto add = [&](auto t) __attribute__((always_inline)) {
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        const auto x = pack::broadcast(a[row[i] + t * p.a_step]).v;
        acc[i] = simd::native::fma(x, r[t].v, acc[i]);
      });
    };
    if (there == width && left == width) {
      simd::unrolled<width>([&](auto j) __attribute__((always_inline)) {
        __builtin_prefetch(b + j * p.b_column + ahead, 0, 2);
        r[j] = pack::load(b + j * p.b_column);
      });
      simd::transpose(r);
      simd::unrolled<width>(add);
    } else {
      simd::unrolled<width>([&](auto j) __attribute__((always_inline)) {
        r[j] = j < there ? pack::load_partial(b + j * p.b_column, left) : pack::zero();
      });
      simd::transpose(r);
      simd::unrolled<width>([&](auto t) __attribute__((always_inline)) {
        if (t < left) add(t);
      });
    }
  }
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    if (i < rows) pack{acc[i]}.store_up_to(p.c + i * p.c_row, there);
  });
}

template <class T>
void multiply_turned_rows(const turned_product<T>& p, int rows, int there) {
  if (rows <= 1) return multiply_turned_columns<T, 1>(p, rows, there);
  if (rows <= 2) return multiply_turned_columns<T, 2>(p, rows, there);
  if (rows <= 4) return multiply_turned_columns<T, 4>(p, rows, there);
  multiply_turned_columns<T, most_rows_turned>(p, rows, there);
}

// p.c: the first of n columns.
template <class T>
void multiply_turned_block(turned_product<T> p, int rows, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t width = simd::pack<T>::width;
  for (std::ptrdiff_t j = 0; j < n; j += width) {
    multiply_turned_rows(p, rows, static_cast<int>(std::min(width, n - j)));
    p.b += width * p.b_column, p.c += width;
  }
}

}  // namespace deepseek::kernels
