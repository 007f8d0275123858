// SPDX-License-Identifier: Apache-2.0
// The word forms (stored_weights.hpp) of e4m3 blocks, int8 channels, 4-bit groups and e2m1 blocks:
// codes become floats by integer operations that put the bits of a code where float has them.
//   e4m3: sign, exponent and fraction shifted into place are the value times 2^-120; two exact or
//   once rounded products give value times scale. NaN codes are found apart and put right after.
//   4 bits: 0x41800000 + q 2^19 is the float 16 + q; fma(16 + q, s, -(16 + z) s) = (q - z) s, exact
//   for a scale s of up to 11 significant bits; z <= 16.
//   e2m1: its three lower bits added to the exponent and fraction of 0.5 are F = 0.5, 0.75, 1, 1.5,
//   2, 3, 4, 6; the code's size is min(F, 2 F - 1). (In place, without the bias, half of the codes
//   0.5 would be subnormal floats, which many machines multiply slowly.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

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

// W[n, k] in int8 with contiguous rows, a scale for each row.
struct int8_rows_of_codes {
  static constexpr int per_word = 4;
  static constexpr std::ptrdiff_t chunk = 256, group = chunk;
  struct factors_type {
    simd::pack<float> scale;
  };
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t k) { return k; }

  const unsigned char* data;
  std::ptrdiff_t row, n;
  const float* scales;

  word_block words(weight_place at, std::int32_t* scratch) const {
    return turn_rows({data + at.n0 * row + at.k0, row}, n - at.n0, at.n, at.k, scratch);
  }
  factors_type factors(std::ptrdiff_t, std::ptrdiff_t column) const {
    const std::ptrdiff_t first = std::min(column, n);
    return {simd::pack<float>::load_up_to(scales + first, n - first)};
  }
  template <int I>
  static DEEPSEEK_INLINE simd::pack<float> value(weight_word w, const factors_type& f) {
    weight_word top = w;
    if constexpr (I < 3) top = w << (24 - 8 * I);
    return simd::pack<float>{__builtin_convertvector(top >> 24, simd::vector<float>)} * f.scale;
  }
};

// W[n, k] in the order of int4_layout; scales bf16, or f16.
template <bool HalfScales>
struct int4_words {
  static constexpr int per_word = 8;
  static constexpr std::ptrdiff_t chunk = PTRDIFF_MAX;
  struct factors_type {
    simd::pack<float> scale, offset;
  };
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t) { return 0; }

  const std::int32_t* data;
  const std::uint16_t* scales;
  const std::uint8_t* zeros;  // null: all 8
  std::ptrdiff_t words_deep, groups_deep, group;
  int group_bits;  // group = 2^group_bits

  word_block words(weight_place at, std::int32_t*) const { return words_at(data, words_deep, at); }
  // The block of words that int4_layout puts there.
  static word_block words_at(const std::int32_t* data, std::ptrdiff_t deep, weight_place at) {
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t first = at.n0 / lanes * deep * lanes + at.n0 % lanes;
    return {data + first + at.k0 / per_word * lanes, deep * lanes};
  }
  factors_type factors(std::ptrdiff_t k, std::ptrdiff_t column) const {
    using pack = simd::pack<float>;
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t at =
        (column / lanes * groups_deep + (k >> group_bits)) * lanes + column % lanes;
    const pack scale = HalfScales ? simd::load_f16(scales + at) : simd::load_bf16(scales + at);
    pack zero = pack::broadcast(24.0F);
    if (zeros != nullptr) {
      const auto number =
          __builtin_convertvector(simd::widen_bytes(zeros + at), simd::vector<float>);
      zero = pack{number} + pack::broadcast(16.0F);
    }
    return {scale, -(zero * scale)};
  }
  // Scales and zero points of the columns from one on, group after group.
  struct group_factors {
    const std::uint16_t* scales;
    const std::uint8_t* zeros;  // null: all 8
    std::pair<simd::pack<float>, simd::pack<float>> at(std::ptrdiff_t g) const {
      using pack = simd::pack<float>;
      const std::ptrdiff_t i = g * word_block::lanes;
      const pack scale = HalfScales ? simd::load_f16(scales + i) : simd::load_bf16(scales + i);
      if (zeros == nullptr) return {scale, pack::broadcast(8.0F)};
      return {scale,
              pack{__builtin_convertvector(simd::widen_bytes(zeros + i), simd::vector<float>)}};
    }
  };
  group_factors factors_from(std::ptrdiff_t column) const {
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t first = column / lanes * groups_deep * lanes + column % lanes;
    return {scales + first, zeros == nullptr ? nullptr : zeros + first};
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

// W[n, k] in e2m1 in the order of int4_layout, scales e8m0, one for 32 steps.
struct e2m1_words {
  static constexpr int per_word = 8;
  static constexpr std::ptrdiff_t chunk = PTRDIFF_MAX, group = 32;
  struct factors_type {
    simd::pack<float> scale;
  };
  static constexpr std::ptrdiff_t turned_bytes(std::ptrdiff_t) { return 0; }

  const std::int32_t* data;
  const std::uint8_t* scales;
  std::ptrdiff_t words_deep, groups_deep;

  word_block words(weight_place at, std::int32_t*) const {
    return int4_words<false>::words_at(data, words_deep, at);
  }
  factors_type factors(std::ptrdiff_t k, std::ptrdiff_t column) const {
    constexpr std::ptrdiff_t lanes = word_block::lanes;
    const std::ptrdiff_t at = (column / lanes * groups_deep + k / group) * lanes + column % lanes;
    const weight_word code = simd::widen_bytes(scales + at);
    const weight_word none = code == 0, nan = code == 255;  // all bits where it holds
    const weight_word bits = (code << 23) | (none & 0x00400000) | (nan & 0x00400000);
    return {simd::from_bits<float>(bits)};
  }
  template <int I>
  static DEEPSEEK_INLINE simd::pack<float> value(weight_word w, const factors_type& f) {
    using pack = simd::pack<float>;
    constexpr int left = 22 - 4 * I;
    weight_word size;
    if constexpr (left >= 0) {
      size = w << left;
    } else {
      size = w >> -left;
    }
    const auto biased = simd::from_bits<float>((size & 0x01c00000) + 0x3f000000);
    const auto number =
        simd::min(biased, simd::fma(biased, pack::broadcast(2.0F), pack::broadcast(-1.0F)));
    const weight_word sign = (w << (28 - 4 * I)) & static_cast<std::int32_t>(0x80000000U);
    return simd::from_bits<float>(simd::bits_of(number) ^ sign) * f.scale;
  }
};

}  // namespace deepseek::kernels
