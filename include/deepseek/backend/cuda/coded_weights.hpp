// SPDX-License-Identifier: Apache-2.0
// Stored weights as the kernels of coded_gemm.hpp read them: 16 bytes at a time, which are `steps`
// neighbours along k of `columns` outputs:
//   4-bit words of int4_layout: 4 outputs x 8; bytes of rows [out, in]: 1 output x 16.
// A form has load(e, n, k) -> packet, group(e, n, k) -> what 32 steps share, and
// decode(packet, group, values) -> the numbers, which are those of the format's matrix, bit for
// bit. k is a multiple of `steps`, n of `columns`; what lies behind the last step is any number.
#pragma once

#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace deepseek {

namespace cuda_coded {

// Steps of k that are summed alone; groups and blocks of scales divide it.
inline constexpr index_t slab = 128;
// Steps whose scales are read together: the smallest group of any format.
inline constexpr int scale_steps = 32;

// Slab sums are added as they are; a form may weigh them (fp8_gemm.hpp).
struct plain_slabs {
  static constexpr bool single_rows = true;  // one row an expert has a kernel of its own
  template <class A>
  DEEPSEEK_HOST_DEVICE static A added(A total, A inner, index_t /*e*/, index_t /*m*/, index_t /*n*/,
                                      index_t /*slab*/) {
    return total + inner;
  }
};

// 2^23 + a byte, as float bits.
DEEPSEEK_HOST_DEVICE inline float float_of_small(std::uint32_t byte) {
  return detail::bits_as<float>(0x4b000000U | byte);
}

// (q - z) s for codes of 4 bits.
template <class Scale>
struct int4_form : plain_slabs {
  static constexpr int columns = 4, steps = 8;
  const std::int32_t* q;
  const Scale* scale;
  const std::uint8_t* zero;  // null: the middle for all
  index_t out, in, words_deep, groups_deep, q_step, group_step;
  int log_group;
  bool whole;  // packets are aligned

  struct group_of {
    float scale[columns], zero[columns];
  };
  DEEPSEEK_HOST_DEVICE const std::int32_t* word_at(index_t e, index_t n, index_t k) const {
    const index_t panel = n / int4_layout::panel, column = n % int4_layout::panel;
    return q + e * q_step + (panel * words_deep + k / steps) * int4_layout::panel + column;
  }
  DEEPSEEK_HOST_DEVICE index_t group_at(index_t e, index_t n, index_t k) const {
    const index_t panel = n / int4_layout::panel, column = n % int4_layout::panel;
    return e * group_step + (panel * groups_deep + (k >> log_group)) * int4_layout::panel + column;
  }
  DEEPSEEK_HOST_DEVICE packet load(index_t e, index_t n, index_t k) const {
    return load_packet(word_at(e, n, k), whole);
  }
  DEEPSEEK_HOST_DEVICE group_of group(index_t e, index_t n, index_t k) const {
    const index_t at = group_at(e, n, k);
    group_of g;
    for (int c = 0; c < columns; ++c) {
      g.scale[c] = static_cast<float>(scale[at + c]);
      g.zero[c] =
          float_of_small(zero == nullptr ? std::uint32_t{int4_group::middle} : zero[at + c]);
    }
    return g;
  }
  // 2^23 + q and 2^23 + z are exact, and so is their difference.
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of& g,
                                          A (&values)[columns][steps]) {
    for (int c = 0; c < columns; ++c) {
      for (int i = 0; i < steps; ++i) {
        const float code = float_of_small((p.word[c] >> (4 * i)) & 15U) - g.zero[c];
        values[c][i] = static_cast<A>(code * g.scale[c]);
      }
    }
  }
};

// e2m1 times a power of two.
struct mxfp4_form : plain_slabs {
  static constexpr int columns = 4, steps = 8;
  const std::int32_t* q;
  const f8_e8m0* scale;
  index_t out, in, words_deep, groups_deep, q_step, group_step;
  bool whole;

  struct group_of {
    float scale[columns];
  };
  DEEPSEEK_HOST_DEVICE const std::int32_t* word_at(index_t e, index_t n, index_t k) const {
    const index_t panel = n / int4_layout::panel, column = n % int4_layout::panel;
    return q + e * q_step + (panel * words_deep + k / steps) * int4_layout::panel + column;
  }
  DEEPSEEK_HOST_DEVICE index_t group_at(index_t e, index_t n, index_t k) const {
    const index_t panel = n / int4_layout::panel, column = n % int4_layout::panel;
    return e * group_step + (panel * groups_deep + k / mxfp4_block) * int4_layout::panel + column;
  }
  DEEPSEEK_HOST_DEVICE packet load(index_t e, index_t n, index_t k) const {
    return load_packet(word_at(e, n, k), whole);
  }
  DEEPSEEK_HOST_DEVICE group_of group(index_t e, index_t n, index_t k) const {
    const index_t at = group_at(e, n, k);
    group_of g;
    for (int c = 0; c < columns; ++c) g.scale[c] = static_cast<float>(scale[at + c]);
    return g;
  }
  // Twice the sizes 0, 0.5, 1, 1.5, 2, 3, 4, 6, four bits each.
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of& g,
                                          A (&values)[columns][steps]) {
    for (int c = 0; c < columns; ++c) {
      for (int i = 0; i < steps; ++i) {
        const std::uint32_t code = (p.word[c] >> (4 * i)) & 15U;
        const std::uint32_t twice = (0xc8643210U >> (4 * (code & 7U))) & 15U;
        const float size = (float_of_small(twice) - 0x1p23F) * 0.5F;
        const auto bits = detail::bits_as<std::uint32_t>(size) | ((code & 8U) << 28U);
        values[c][i] = static_cast<A>(detail::bits_as<float>(bits) * g.scale[c]);
      }
    }
  }
};

// Rows of bytes [out, in] of each expert.
struct byte_rows : plain_slabs {
  static constexpr int columns = 1, steps = 16;
  const std::uint8_t* q;
  index_t out, in;
  bool whole;  // rows begin at multiples of 16 bytes

  DEEPSEEK_HOST_DEVICE packet load(index_t e, index_t n, index_t k) const {
    const std::uint8_t* const from = q + (e * out + n) * in + k;
    if (whole) return load_packet(from, true);
    return load_bytes(from, in - k);
  }
};

// A signed byte times the scale of its output.
struct int8_form : byte_rows {
  const float* scale;  // [experts, out]

  struct group_of {
    float scale;
  };
  DEEPSEEK_HOST_DEVICE group_of group(index_t e, index_t n, index_t) const {
    return {scale[e * out + n]};
  }
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of& g,
                                          A (&values)[columns][steps]) {
    for (int i = 0; i < steps; ++i) {
      const std::uint32_t byte = ((p.word[i / 4] >> (8 * (i % 4))) & 0xffU) ^ 0x80U;  // + 128
      values[0][i] = static_cast<A>((float_of_small(byte) - (0x1p23F + 128)) * g.scale);
    }
  }
};

// The number of an e4m3 code, all 256: its bits where float has them, times 2^120.
DEEPSEEK_HOST_DEVICE inline float float_of_e4m3(std::uint32_t code) {
  const std::uint32_t size = code & 0x7fU, sign = (code & 0x80U) << 24U;
  const float value = detail::bits_as<float>((size << 20U) | sign) * 0x1p120F;
  return size == 0x7fU ? detail::bits_as<float>(0x7fc00000U) : value;
}

// An e4m3 code times the scale of its block of 128 x 128.
struct fp8_form : byte_rows {
  const float* scale;  // [experts, blocks_out, blocks_in]
  index_t blocks_out, blocks_in;

  struct group_of {
    float scale;
  };
  DEEPSEEK_HOST_DEVICE float scale_at(index_t e, index_t n, index_t block) const {
    return scale[(e * blocks_out + n / fp8_block) * blocks_in + block];
  }
  DEEPSEEK_HOST_DEVICE group_of group(index_t e, index_t n, index_t k) const {
    return {scale_at(e, n, k / fp8_block)};
  }
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of& g,
                                          A (&values)[columns][steps]) {
    for (int i = 0; i < steps; ++i) {
      const float value = float_of_e4m3((p.word[i / 4] >> (8 * (i % 4))) & 0xffU);
      values[0][i] = static_cast<A>(value * g.scale);
    }
  }
};

// Panels of any width that another backend packed (quant/packed.hpp), element by element.
template <class T>
struct panel_form : plain_slabs {
  static constexpr int columns = 1, steps = 4;
  const T* panels;
  packed_layout layout;
  index_t out, in, step;

  struct group_of {};
  struct packet_of {
    T value[steps];
  };
  DEEPSEEK_HOST_DEVICE packet_of load(index_t e, index_t n, index_t k) const {
    packet_of p;
    const T* const from =
        panels + e * step + (n / layout.columns * in + k) * layout.columns + n % layout.columns;
    for (int i = 0; i < steps; ++i) p.value[i] = k + i < in ? from[i * layout.columns] : T(0);
    return p;
  }
  DEEPSEEK_HOST_DEVICE static group_of group(index_t, index_t, index_t) { return {}; }
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet_of& p, const group_of&,
                                          A (&values)[columns][steps]) {
    for (int i = 0; i < steps; ++i) values[0][i] = static_cast<A>(p.value[i]);
  }
};

template <class S, class Scale>
int4_form<Scale> form_of(const int4_operand<S, Scale>& w) {
  int log_group = 0;
  while ((index_t{1} << log_group) < w.layout.group) ++log_group;
  return {{},
          w.q.data(),
          w.scale.data(),
          w.zero.data(),
          w.out(),
          w.in(),
          w.layout.words_deep(),
          w.layout.groups_deep(),
          w.layout.words(),
          w.layout.groups(),
          log_group,
          begins_at_packet(w.q.data())};
}
template <class S>
mxfp4_form form_of(const mxfp4_operand<S>& w) {
  return {{},
          w.q.data(),
          w.scale.data(),
          w.out(),
          w.in(),
          w.layout.words_deep(),
          w.layout.groups_deep(),
          w.layout.words(),
          w.layout.groups(),
          begins_at_packet(w.q.data())};
}
template <class W>
byte_rows byte_rows_of(const W& w) {
  return {{},
          reinterpret_cast<const std::uint8_t*>(w.q.data()),
          w.out(),
          w.in(),
          begins_at_packet(w.q.data()) && w.in() % packet_bytes == 0};
}
template <class S>
int8_form form_of(const int8_channels_operand<S>& w) {
  return {byte_rows_of(w), w.scale.data()};
}
template <class S>
fp8_form form_of(const fp8_operand<S>& w) {
  return {byte_rows_of(w), w.scale.data(), w.scale.extent(1), w.scale.extent(2)};
}
template <class T, class S>
panel_form<T> form_of(const packed_operand<T, S>& w) {
  return {{}, w.q.data(), w.layout, w.out(), w.in(), w.layout.size()};
}

}  // namespace cuda_coded

}  // namespace deepseek
