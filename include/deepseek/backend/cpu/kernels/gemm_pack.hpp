// SPDX-License-Identifier: Apache-2.0
// Copies of operands in the order in which the innermost product reads them.
// Columns of B: panels [n / columns][k][columns] of tile_size<T>::columns; rows of A: strips of
// tile_size<T>::rows. What lies outside the matrix is zero. Where the contiguous direction is the
// other one, blocks turn in registers.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/gemm_tile.hpp"
#include "deepseek/backend/cpu/simd_turn.hpp"

namespace deepseek::kernels {

// Element (i, j) of a matrix at data[i * row + j * column].
template <class T>
struct operand {
  const T* data;
  std::ptrdiff_t row, column;
  const T* at(std::ptrdiff_t i, std::ptrdiff_t j) const { return data + i * row + j * column; }
  operand from(std::ptrdiff_t i, std::ptrdiff_t j) const { return {at(i, j), row, column}; }
  operand transposed() const { return {data, column, row}; }
};

// out[j * out_row + i] = in[i * in_row + j] for i < rows <= width, j < columns <= width; other i <
// width are written as zero.
template <class T>
DEEPSEEK_INLINE void transpose_block(const T* in, std::ptrdiff_t in_row, int rows, int columns,
                                     T* out, std::ptrdiff_t out_row) {
  constexpr int width = simd::pack<T>::width;
  simd::pack<T> r[width];
  if (rows == width && columns == width) {
    constexpr int ahead =
        512 / static_cast<int>(sizeof(T));  // rows far apart defeat the prefetcher
    simd::unrolled<width>([&](auto i) __attribute__((always_inline)) {
      __builtin_prefetch(in + i * in_row + ahead);
      r[i] = simd::pack<T>::load(in + i * in_row);
    });
  } else {
    simd::unrolled<width>([&](auto i) __attribute__((always_inline)) {
      r[i] =
          i < rows ? simd::pack<T>::load_partial(in + i * in_row, columns) : simd::pack<T>::zero();
    });
  }
  simd::transpose(r);
  simd::unrolled<width>([&](auto j) __attribute__((always_inline)) {
    if (j < columns) r[j].store(out + j * out_row);
  });
}

// One panel: rows 0 .. k - 1 of `columns` columns of b, filled up to Full.
template <class T, int Full = tile_size<T>::columns>
__attribute__((noinline)) void pack_panel(operand<T> b, std::ptrdiff_t k, int columns, T* out) {
  constexpr int full = Full, width = simd::pack<T>::width;
  if (b.column == 1 && columns == full) {
    for (std::ptrdiff_t i = 0; i < k; ++i)
      __builtin_memcpy(out + i * full, b.at(i, 0), full * sizeof(T));
    return;
  }
  if (b.row == 1) {
    for (std::ptrdiff_t i = 0; i < k; i += width) {
      for (int j = 0; j < full; j += width) {
        const int rows = std::clamp(columns - j, 0, width);
        transpose_block(rows > 0 ? b.at(i, j) : b.data, b.column, rows,
                        static_cast<int>(std::min<std::ptrdiff_t>(width, k - i)),
                        out + i * full + j, full);
      }
    }
    return;
  }
  for (std::ptrdiff_t i = 0; i < k; ++i) {
    for (int j = 0; j < full; ++j) out[i * full + j] = j < columns ? *b.at(i, j) : T(0);
  }
}

template <class T>
constexpr std::ptrdiff_t panels_of(std::ptrdiff_t n) {
  return (n + tile_size<T>::columns - 1) / tile_size<T>::columns;
}

// Where rows of b are contiguous they are read whole, once, and dealt out to the panels.
template <class T>
void pack_panels(operand<T> b, std::ptrdiff_t k, std::ptrdiff_t n, T* out) {
  constexpr std::ptrdiff_t full = tile_size<T>::columns;
  const std::ptrdiff_t whole = b.column == 1 ? n / full * full : 0;
  for (std::ptrdiff_t i = 0; whole > 0 && i < k; ++i) {
    for (std::ptrdiff_t j = 0; j < whole; j += full) {
      __builtin_memcpy(out + j * k + i * full, b.at(i, j), full * sizeof(T));
    }
  }
  for (std::ptrdiff_t j = whole; j < n; j += full) {
    pack_panel(b.from(0, j), k, static_cast<int>(std::min(full, n - j)), out + j * k);
  }
}

// The rows of one strip as the innermost product takes them.
template <class T>
struct strip {
  const T* data;
  std::ptrdiff_t row, step;
};

inline constexpr std::ptrdiff_t strip_padding = 16;

template <class T>
constexpr std::ptrdiff_t strip_size(std::ptrdiff_t k) {
  return tile_size<T>::rows * (k + strip_padding);
}

// Rows whose distance is a multiple of 4 KiB evict each other from the first-level cache.
template <class T>
bool reads_in_place(operand<T> a, int rows) {
  return a.column == 1 && rows == padded_rows<T>(rows) &&
         (rows <= 4 || a.row * static_cast<std::ptrdiff_t>(sizeof(T)) % 4096 != 0);
}

// `out` holds strip_size(k) elements and is used only where `a` cannot be read in place.
template <class T>
strip<T> pack_strip(operand<T> a, std::ptrdiff_t k, int rows, T* out) {
  constexpr int full = tile_size<T>::rows;
  if (reads_in_place(a, rows)) return {a.data, a.row, 1};
  if (a.row == 1) {
    for (std::ptrdiff_t p = 0; p < k; ++p) {
      for (int i = 0; i < full; ++i) out[p * full + i] = i < rows ? *a.at(i, p) : T(0);
    }
    return {out, 1, full};
  }
  const std::ptrdiff_t row = k + strip_padding;
  for (int i = 0; i < padded_rows<T>(rows); ++i) {
    T* to = out + i * row;
    if (i >= rows) {
      std::fill_n(to, k, T(0));
    } else if (a.column == 1) {
      std::copy_n(a.at(i, 0), k, to);
    } else {
      for (std::ptrdiff_t p = 0; p < k; ++p) to[p] = *a.at(i, p);
    }
  }
  return {out, row, 1};
}

// All strips of m rows, `out` holding strip_size(k) elements for each. Contiguous columns of a are
// read whole, once.
template <class T>
void pack_strips(operand<T> a, std::ptrdiff_t k, std::ptrdiff_t m, T* out, strip<T>* strips) {
  constexpr std::ptrdiff_t full = tile_size<T>::rows;
  const std::ptrdiff_t whole = a.row == 1 && a.column != 1 ? m / full : 0, size = strip_size<T>(k);
  for (std::ptrdiff_t p = 0; whole > 0 && p < k; ++p) {
    for (std::ptrdiff_t s = 0; s < whole; ++s) {
      __builtin_memcpy(out + s * size + p * full, a.at(s * full, p), full * sizeof(T));
    }
  }
  for (std::ptrdiff_t s = 0; s < whole; ++s) strips[s] = {out + s * size, 1, full};
  for (std::ptrdiff_t s = whole; s * full < m; ++s) {
    strips[s] = pack_strip(a.from(s * full, 0), k, static_cast<int>(std::min(full, m - s * full)),
                           out + s * size);
  }
}

}  // namespace deepseek::kernels
