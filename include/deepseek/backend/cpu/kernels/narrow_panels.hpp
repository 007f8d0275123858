// SPDX-License-Identifier: Apache-2.0
// 16-bit operands in the order in which dot_tile.hpp reads them. Rows of A, bf16 only: words of two
// neighbours along k, the first in the lower half; a last neighbour that is missing is zero. A
// panel of B: [step][columns] such words of bf16, or f16 elements. Blocks turn in registers where
// the contiguous direction is the other one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/dot_tile.hpp"
#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/kernels/stored_weights.hpp"

namespace deepseek::kernels {

// The lower halves of words come from one row, the upper ones from the next; n columns.
DEEPSEEK_INLINE weight_word zip_rows(const std::uint16_t* low, const std::uint16_t* high, int n) {
  const weight_word lower = simd::widen_words(low, n);
  return high == nullptr ? lower : lower | (simd::widen_words(high, n) << 16);
}

// Element by element, for strides that no register can take: word w of line i is (2 w, 2 w + 1).
inline std::int32_t word_at(const operand<std::uint16_t>& x, std::ptrdiff_t i, std::ptrdiff_t w,
                            std::ptrdiff_t k) {
  const std::uint32_t low = *x.at(i, 2 * w), high = 2 * w + 1 < k ? *x.at(i, 2 * w + 1) : 0U;
  return static_cast<std::int32_t>(low | high << 16);
}

// Rows i0 .. i1 - 1 of x[m, k] as words, `pitch` words from row to row.
inline void make_pair_rows(const operand<std::uint16_t>& x, gemm_shape s, std::ptrdiff_t pitch,
                           std::int32_t* out) {
  constexpr std::ptrdiff_t width = simd::pack<float>::width;
  const std::ptrdiff_t words = (s.k + 1) / 2;
  for (std::ptrdiff_t i = 0; i < s.m;) {
    std::int32_t* const to = out + i * pitch;
    if (x.column == 1) {
      __builtin_memcpy(to, x.at(i, 0), static_cast<std::size_t>(s.k) * 2);
      if (s.k % 2 != 0) to[words - 1] = word_at(x, i, words - 1, s.k);
      ++i;
    } else if (x.row == 1 && i + width <= s.m) {
      for (std::ptrdiff_t w = 0; w < words; w += width) {
        simd::pack<float> r[width];
        for (std::ptrdiff_t t = 0; t < width; ++t) {
          const std::ptrdiff_t k = 2 * (w + t);
          r[t] = k < s.k ? simd::from_bits<float>(
                               zip_rows(x.at(i, k), k + 1 < s.k ? x.at(i, k + 1) : nullptr, width))
                         : simd::pack<float>::zero();
        }
        simd::transpose(r);
        const auto left = static_cast<std::size_t>(std::min(width, words - w));
        for (std::ptrdiff_t t = 0; t < width; ++t) {
          __builtin_memcpy(to + t * pitch + w, &r[t].v, left * sizeof(std::int32_t));
        }
      }
      i += width;
    } else {
      for (std::ptrdiff_t w = 0; w < words; ++w) to[w] = word_at(x, i, w, s.k);
      ++i;
    }
  }
}

// B[k, n] of 16-bit elements with any strides; panels of Columns are made when they are needed.
template <std::ptrdiff_t Columns>
struct narrow_columns {
  operand<std::uint16_t> b;
  std::ptrdiff_t k, n;

  static constexpr std::ptrdiff_t columns = Columns;
  // Words that a panel of `words` pairs of steps takes: blocks are written whole.
  static constexpr std::ptrdiff_t panel_words(std::ptrdiff_t words) {
    return (words + simd::pack<float>::width) * columns;
  }

  // Pairs w0 .. w0 + words - 1 of the columns from n0 on.
  void make_pairs(std::ptrdiff_t n0, std::ptrdiff_t w0, std::ptrdiff_t words,
                  std::int32_t* out) const {
    if (b.row == 1) return turn_columns(n0, w0, words, out);
    const std::ptrdiff_t there = std::min(columns, n - n0);
    if (b.column == 1 && there == columns) return zip_columns(n0, w0, words, out);
    for (std::ptrdiff_t w = 0; w < words; ++w) {
      for (std::ptrdiff_t j = 0; j < columns; ++j) {
        out[w * columns + j] =
            j < there ? word_at({b.data, b.column, b.row}, n0 + j, w0 + w, k) : 0;
      }
    }
  }
  // Steps k0 .. k0 + steps - 1 (k0 even), one element a column; `pairs` holds panel_words().
  void make_steps(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t steps, std::int32_t* pairs,
                  std::uint16_t* out) const {
    constexpr std::ptrdiff_t width = simd::pack<float>::width;
    make_pairs(n0, k0 / 2, (steps + 1) / 2, pairs);
    for (std::ptrdiff_t i = 0; i < (steps + 1) / 2; ++i) {
      for (std::ptrdiff_t j = 0; j < columns; j += width) {
        weight_word word;
        __builtin_memcpy(&word, pairs + i * columns + j, sizeof word);
        const auto low = __builtin_convertvector(word, simd::half_words);
        const auto high = __builtin_convertvector(word >> 16, simd::half_words);
        __builtin_memcpy(out + 2 * i * columns + j, &low, sizeof low);
        __builtin_memcpy(out + (2 * i + 1) * columns + j, &high, sizeof high);
      }
    }
  }

 private:
  void turn_columns(std::ptrdiff_t n0, std::ptrdiff_t w0, std::ptrdiff_t words,
                    std::int32_t* out) const {
    constexpr std::ptrdiff_t width = simd::pack<float>::width;
    const std::ptrdiff_t end = std::min(2 * (w0 + words), k);
    for (std::ptrdiff_t j = 0; j < columns; j += width) {
      const int rows = static_cast<int>(std::clamp<std::ptrdiff_t>(n - n0 - j, 0, width));
      for (std::ptrdiff_t w = 0; w < words; w += width) {
        const std::uint16_t* from = rows > 0 ? b.at(2 * (w0 + w), n0 + j) : b.data;
        turn_block({reinterpret_cast<const unsigned char*>(from), 2 * b.column}, rows,
                   2 * (end - 2 * (w0 + w)), out + w * columns + j, columns);
      }
    }
  }
  void zip_columns(std::ptrdiff_t n0, std::ptrdiff_t w0, std::ptrdiff_t words,
                   std::int32_t* out) const {
    constexpr int width = simd::pack<float>::width;
    for (std::ptrdiff_t w = 0; w < words; ++w) {
      const std::ptrdiff_t at = 2 * (w0 + w);
      for (std::ptrdiff_t j = 0; j < columns; j += width) {
        const weight_word both =
            zip_rows(b.at(at, n0 + j), at + 1 < k ? b.at(at + 1, n0 + j) : nullptr, width);
        __builtin_memcpy(out + w * columns + j, &both, sizeof both);
      }
    }
  }
};

}  // namespace deepseek::kernels
