// SPDX-License-Identifier: Apache-2.0
// Weights W[n, k] in fewer bits than float, as the products of gemm_stored.hpp read them.
// Word form: 32-bit words of 16 columns (rows of W) side by side, each with `per_word` neighbours
// along k: column j, step t at data[j / 16 * panel + t * 16 + j % 16]. Rows of bytes turn into it
// in registers; what lies outside the matrix is zero.
// A word-form type W names: per_word, chunk (steps of k turned at once), group (steps with the same
// factors, a divisor of chunk), turned_bytes(k) of a row (0: it is stored as words), words(place,
// scratch), factors(k, n) and value<i>(word, factors): the weights of step i of a word, as floats;
// where value<i> gives a number for NaN, also for_each_nan.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/kernels/gemm_pack.hpp"
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/backend/cpu/simd_turn.hpp"

namespace deepseek::kernels {

using weight_word = simd::vector<std::int32_t>;

struct word_block {
  static constexpr std::ptrdiff_t lanes = 16;
  const std::int32_t* data;
  std::ptrdiff_t panel;  // words from 16 columns to the next 16
  bool marked = false;  // holds codes that the form's value<i> cannot tell: for_each_nan gives them

  const std::int32_t* column(std::ptrdiff_t j) const {
    return data + j / lanes * panel + j % lanes;
  }
};

// Steps k0 .. k0 + k - 1 of columns n0 .. n0 + n - 1. k0 is a multiple of the group; of words that
// are stored as such only columns before the next multiple of 16 (n0 not being one) may be read.
struct weight_place {
  std::ptrdiff_t k0, k, n0, n;
};

// Unsigned bytes: any element type may be read through them.
struct byte_rows {
  const unsigned char* data;
  std::ptrdiff_t row;  // in bytes
};

// One register of each of `rows` rows, cut off after `bytes`, turned. Rows often lie a multiple of
// 4 KiB apart: what is fetched ahead has room in the second cache level only.
DEEPSEEK_INLINE void turn_registers(byte_rows from, int rows, std::ptrdiff_t bytes,
                                    simd::pack<float> (&r)[simd::pack<float>::width]) {
  using pack = simd::pack<float>;
  constexpr std::ptrdiff_t whole = sizeof(pack);
  const std::ptrdiff_t ahead = turned_ahead(from.row);
  if (rows >= pack::width && bytes >= whole) {
    simd::unrolled<pack::width>([&](auto i) __attribute__((always_inline)) {
      __builtin_prefetch(from.data + i * from.row + ahead, 0, 2);
      __builtin_memcpy(&r[i].v, from.data + i * from.row, sizeof(pack));
    });
  } else {
    const auto count = static_cast<std::size_t>(std::min(whole, bytes));
    simd::unrolled<pack::width>([&](auto i) __attribute__((always_inline)) {
      r[i] = pack::zero();
      if (i < rows) __builtin_memcpy(&r[i].v, from.data + i * from.row, count);
    });
  }
  simd::transpose(r);
}

// Stored `apart` words apart.
DEEPSEEK_INLINE void turn_block(byte_rows from, int rows, std::ptrdiff_t bytes, std::int32_t* out,
                                std::ptrdiff_t apart = word_block::lanes) {
  using pack = simd::pack<float>;
  pack r[pack::width];
  turn_registers(from, rows, bytes, r);
  simd::unrolled<pack::width>([&](auto t) __attribute__((always_inline)) {
    __builtin_memcpy(out + t * apart, &r[t].v, sizeof(pack));
  });
}

// Words that turn_rows writes for each 16 columns.
constexpr std::ptrdiff_t turned_words(std::ptrdiff_t bytes) {
  constexpr std::ptrdiff_t register_size = sizeof(simd::pack<float>);
  return (bytes + register_size - 1) / register_size * simd::pack<float>::width * word_block::lanes;
}

// `rows` rows of `bytes` bytes, filled up with zero rows to n (a multiple of 16).
inline word_block turn_rows(byte_rows from, std::ptrdiff_t rows, std::ptrdiff_t n,
                            std::ptrdiff_t bytes, std::int32_t* out) {
  constexpr std::ptrdiff_t width = simd::pack<float>::width, lanes = word_block::lanes;
  const std::ptrdiff_t panel = turned_words(bytes);
  for (std::ptrdiff_t j = 0; j < n; j += width) {
    const int left = static_cast<int>(std::clamp<std::ptrdiff_t>(rows - j, 0, width));
    const byte_rows at{left > 0 ? from.data + j * from.row : from.data, from.row};
    std::int32_t* const to = out + j / lanes * panel + j % lanes;
    for (std::ptrdiff_t b = 0; b < bytes; b += 4 * width) {
      turn_block({at.data + b, at.row}, left, bytes - b, to + b / 4 * lanes);
    }
  }
  return {out, panel};
}

// W[n, k] in bf16 with contiguous rows.
struct bf16_rows {
  static constexpr int per_word = 2;
  static constexpr std::ptrdiff_t chunk = 128, group = chunk;
  struct factors_type {};
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t k) { return 2 * k; }

  const std::uint16_t* data;
  std::ptrdiff_t row, n;

  word_block words(weight_place at, std::int32_t* scratch) const {
    return turn_rows({reinterpret_cast<const unsigned char*>(data + at.n0 * row + at.k0), 2 * row},
                     n - at.n0, at.n, turned_bytes(at.k), scratch);
  }
  factors_type factors(std::ptrdiff_t, std::ptrdiff_t) const { return {}; }
  // The first of two neighbours is the lower half of a word.
  template <int I>
  static DEEPSEEK_INLINE simd::pack<float> value(weight_word w, factors_type) {
    if constexpr (I == 0) {
      return simd::from_bits<float>(w << 16);
    } else {
      return simd::from_bits<float>(w & static_cast<std::int32_t>(0xffff0000U));
    }
  }
};

// W in bf16 with any strides, as B[k, n]; contiguous along n it is read in registers.
struct bf16_matrix {
  const std::uint16_t* data;
  std::ptrdiff_t row, column;  // from one k, from one n to the next
};

// Columns j .. j + count - 1 of one step; the others of the panel are zero.
DEEPSEEK_INLINE void decode_step(const std::uint16_t* from, int count, float* out) {
  using pack = simd::pack<float>;
  constexpr int columns = tile_size<float>::columns;
  if (count >= columns) {
    simd::unrolled<columns / pack::width>([&](auto v) __attribute__((always_inline)) {
      simd::load_bf16(from + v * pack::width).store(out + v * pack::width);
    });
  } else {
    for (int j = 0; j < columns; j += pack::width) {
      simd::load_bf16(from + std::min(j, count), std::clamp(count - j, 0, pack::width))
          .store(out + j);
    }
  }
}

// Panels [n / columns][k][columns] of floats, step by step: rows of B are read whole.
inline void decode_panels(const bf16_matrix& w, weight_place at, float* out) {
  constexpr int columns = tile_size<float>::columns;
  for (std::ptrdiff_t k = 0; k < at.k; ++k) {
    const std::uint16_t* from = w.data + (at.k0 + k) * w.row + at.n0 * w.column;
    for (std::ptrdiff_t j = 0; j < at.n; j += columns) {
      float* to = out + j * at.k + k * columns;
      const int there = static_cast<int>(std::min<std::ptrdiff_t>(columns, at.n - j));
      if (w.column == 1) {
        decode_step(from + j, there, to);
      } else {
        for (int i = 0; i < columns; ++i) {
          const std::uint32_t bits = i < there ? from[(j + i) * w.column] : 0U;
          to[i] = std::bit_cast<float>(bits << 16);
        }
      }
    }
  }
}

}  // namespace deepseek::kernels
