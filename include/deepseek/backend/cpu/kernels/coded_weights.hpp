// SPDX-License-Identifier: Apache-2.0
// The word forms (stored_weights.hpp) of e4m3 blocks and 4-bit groups: codes become floats by
// integer operations that put the bits of a code where float has them.
//   e4m3: sign, exponent and fraction shifted into place are the value times 2^-120; two exact or
//   once rounded products give value times scale. NaN codes are found apart and put right after.
//   4 bits: 0x41800000 + q 2^19 is the float 16 + q; fma(16 + q, s, -(16 + z) s) = (q - z) s, exact
//   for a scale s of 8 significant bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/stored_weights.hpp"

namespace deepseek::kernels {

// W[n, k] in e4m3 with contiguous rows, a scale for each 128 x 128.
struct e4m3_rows {
  static constexpr int per_word = 4;
  static constexpr std::ptrdiff_t chunk = 256, group = 128;
  struct factors_type {
    simd::pack<float> scale;
  };
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t k) { return k; }

  const unsigned char* data;
  std::ptrdiff_t row, n;
  const float* scales;
  std::ptrdiff_t scale_row;

  word_block words(weight_place at, std::int32_t* scratch) const {
    word_block b = turn_rows({data + at.n0 * row + at.k0, row}, n - at.n0, at.n, at.k, scratch);
    b.marked = holds_nan(b, at);
    return b;
  }
  factors_type factors(std::ptrdiff_t k, std::ptrdiff_t column) const {
    const std::ptrdiff_t block = std::min(column, n - 1) / group;
    return {simd::pack<float>::broadcast(scales[block * scale_row + k / group])};
  }
  template <int I>
  static DEEPSEEK_INLINE simd::pack<float> value(weight_word w, const factors_type& f) {
    weight_word top = w;
    if constexpr (I < 3) top = w << (24 - 8 * I);
    const auto bits = (top >> 4) & static_cast<std::int32_t>(0x87f00000U);
    return simd::from_bits<float>(bits) * simd::pack<float>::broadcast(0x1p120F) * f.scale;
  }

  // f(step, column) for each NaN of a block.
  template <class F>
  static void for_each_nan(const word_block& b, weight_place at, const F& f) {
    if (!b.marked) return;
    for (std::ptrdiff_t j = 0; j < at.n; ++j) {
      const std::int32_t* p = b.column(j);
      for (std::ptrdiff_t k = 0; k < at.k; ++k) {
        const auto word = static_cast<std::uint32_t>(p[k / per_word * word_block::lanes]);
        if (((word >> (8 * (k % per_word))) & 0x7fU) == 0x7fU) f(k, j);
      }
    }
  }

 private:
  // A byte whose lower 7 bits are all set carries into its highest bit.
  static bool holds_nan(const word_block& b, weight_place at) {
    using bits_type = simd::vector<std::uint32_t>;  // carries out of the sign are no overflow here
    bits_type carried{};
    const std::ptrdiff_t count = at.n / word_block::lanes * b.panel;
    for (std::ptrdiff_t i = 0; i < count; i += simd::pack<float>::width) {
      bits_type w;
      __builtin_memcpy(&w, b.data + i, sizeof w);
      carried |= (w & 0x7f7f7f7fU) + 0x01010101U;
    }
    bool found = false;
    for (int lane = 0; lane < simd::pack<float>::width; ++lane) {
      found = found || (carried[lane] & 0x80808080U) != 0;
    }
    return found;
  }
};

// W[n, k] in the order of int4_layout.
struct int4_words {
  static constexpr int per_word = 8;
  static constexpr std::ptrdiff_t chunk = PTRDIFF_MAX;
  struct factors_type {
    simd::pack<float> scale, offset;
  };
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t) { return 0; }

  const std::int32_t* data;
  const std::uint16_t* scales;  // bf16
  const std::uint8_t* zeros;
  std::ptrdiff_t words_deep, groups_deep, group;
  int group_bits;  // group = 2^group_bits

  word_block words(weight_place at, std::int32_t*) const {
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t first = at.n0 / lanes * words_deep * lanes + at.n0 % lanes;
    return {data + first + at.k0 / per_word * lanes, words_deep * lanes};
  }
  factors_type factors(std::ptrdiff_t k, std::ptrdiff_t column) const {
    using pack = simd::pack<float>;
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t at =
        (column / lanes * groups_deep + (k >> group_bits)) * lanes + column % lanes;
    simd::vector<std::uint8_t, pack::width> bytes;
    __builtin_memcpy(&bytes, zeros + at, sizeof bytes);
    // In two steps: g++ 12 takes the bytes apart one by one otherwise.
    const auto half = __builtin_convertvector(bytes, simd::vector<std::uint16_t, 2 * pack::width>);
    const pack scale = simd::load_bf16(scales + at);
    const pack zero = sixteen_and(__builtin_convertvector(half, weight_word) << 19);
    return {scale, -(zero * scale)};
  }
  template <int I>
  static DEEPSEEK_INLINE simd::pack<float> value(weight_word w, const factors_type& f) {
    constexpr int left = 19 - 4 * I;
    if constexpr (left >= 0) {
      return simd::fma(sixteen_and(w << left), f.scale, f.offset);
    } else {
      return simd::fma(sixteen_and(w >> -left), f.scale, f.offset);
    }
  }

 private:
  static DEEPSEEK_INLINE simd::pack<float> sixteen_and(weight_word code) {
    return simd::from_bits<float>((code & 0x00780000) | 0x41800000);
  }
};

}  // namespace deepseek::kernels
