// SPDX-License-Identifier: Apache-2.0
// The innermost product: C[rows, columns] = or += A[rows, steps] B[steps, columns] with all of C in
// registers. Every element is one chain c = fma(a[i,k], b[k,j], c), k ascending, whatever the
// tile's size or place. Tiles at the edge run the same code on a full-sized copy. Source: Goto and
// van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, section 4.
#pragma once

#include <cstddef>

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/config.hpp"

namespace deepseek::kernels {

// Where the chain of a product begins: at zero, or at what C holds.
enum class start { zero, from_c };

// The largest tile whose accumulators, operands and one temporary fit the register file.
template <class T>
struct tile_size {
  static constexpr int width = simd::pack<T>::width;
  static constexpr int rows = simd::register_count == 32 ? 12 : simd::has_fma ? 6 : 4;
  static constexpr int columns = 2 * width;
};

template <class T>
struct tile_operands {
  const T* a;  // element (i, k) at a[i * a_row + k * a_step]
  std::ptrdiff_t a_row, a_step;
  const T* b;  // row k at b + k * b_step
  std::ptrdiff_t b_step;
  std::ptrdiff_t steps;
  T* c;  // row i at c + i * c_row
  std::ptrdiff_t c_row;
  start from;
};

template <class T, int Rows, int Vectors>
__attribute__((noinline)) void multiply_full_tile(const tile_operands<T>& o) {
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
  const T *b = o.b, *a0 = o.a, *a1 = a0 + 4 * o.a_row, *a2 = a1 + 4 * o.a_row;
  const std::ptrdiff_t row = o.a_row, row3 = 3 * row, a_step = o.a_step, b_step = o.b_step;
  for (std::ptrdiff_t k = o.steps; k > 0; --k) {
    if constexpr (Rows <= 4) {  // few rows wait for memory
      simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
        __builtin_prefetch(b + 32 * b_step + j * width);
      });
    }
    typename pack<T>::raw right[Vectors];
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      right[j] = pack<T>::load(b + j * width).v;
    });
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      const T* group = i < 4 ? a0 : i < 8 ? a1 : a2;
      const auto left = pack<T>::broadcast(group[i % 4 == 3 ? row3 : (i % 4) * row]).v;
      simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
        acc[i * Vectors + j] = simd::native::fma(left, right[j], acc[i * Vectors + j]);
      });
    });
    a0 += a_step;
    if constexpr (Rows > 4) a1 += a_step;
    if constexpr (Rows > 8) a2 += a_step;
    b += b_step;
  }
  simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
    pack<T>{acc[q]}.store(o.c + (q / Vectors) * o.c_row + (q % Vectors) * width);
  });
}

// The smallest compiled number of rows that holds `rows`.
template <class T>
constexpr int padded_rows(int rows) {
  constexpr int most = tile_size<T>::rows;
  for (int size : {1, 2, 4, 8}) {
    if (rows <= size && size < most) return size;
  }
  return most;
}

template <class T, int Vectors>
void multiply_padded_rows(const tile_operands<T>& o, int rows) {
  constexpr int most = tile_size<T>::rows;
  switch (padded_rows<T>(rows)) {
    case 1:
      return multiply_full_tile<T, 1, Vectors>(o);
    case 2:
      return multiply_full_tile<T, 2, Vectors>(o);
    case 4:
      return multiply_full_tile<T, 4, Vectors>(o);
    case 8:
      return multiply_full_tile < T, most < 8 ? most : 8, Vectors > (o);
    default:
      return multiply_full_tile<T, most, Vectors>(o);
  }
}

// A must be readable for padded_rows(rows) rows and B for the whole vectors that hold `columns`.
template <class T>
void multiply_tile(const tile_operands<T>& o, int rows, int columns) {
  constexpr int width = tile_size<T>::width, full = tile_size<T>::columns;
  const int vectors = columns > width ? 2 : 1, padded = padded_rows<T>(rows);
  const auto multiply = [&](const tile_operands<T>& operands) {
    vectors == 2 ? multiply_padded_rows<T, 2>(operands, rows)
                 : multiply_padded_rows<T, 1>(operands, rows);
  };
  if (padded == rows && columns == vectors * width) return multiply(o);
  alignas(64) T copy[tile_size<T>::rows * full];
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
