// SPDX-License-Identifier: Apache-2.0
// Stored codes as left factors of tensor cores (tensor_packets.hpp). Every code (q - z, a byte, an
// e4m3 or e2m1 number) is exact in 16 bits, and is what is multiplied; scales weigh the sums, in
// float: of 32 steps for groups of 4-bit codes, of a slab of 128 for channels and blocks. So no
// weight is rounded to 16 bits.
//   4-bit words  pairs (i, i + 4) of a word come out with one shift and one mask
//   bytes        64 steps: lane 4 g + t has steps 16 t .. 16 t + 15 of a row
#pragma once

#include "deepseek/backend/cuda/tensor_packets.hpp"

namespace deepseek {

namespace cuda_tensor {

// Four outputs, two of tile 0 and two of tile 1, by 8 steps a lane.
template <class T, class Form>
struct word_fragments {
  using form = Form;
  static constexpr int tiles = 2, depth = steps, units = 1;
  static constexpr bool weighs_steps = true, weighs_slabs = false;

  static bool suits(const form& w) { return w.whole && w.in % 8 == 0; }
  DEEPSEEK_HOST_DEVICE static const void* source(const form& w, index_t e, index_t n, index_t k,
                                                 int lane, int /*unit*/) {
    const index_t own_n = n + lane / 4 * 4, own_k = k + lane % 4 * 8;
    return own_n < w.out && own_k < w.in ? w.word_at(e, own_n, own_k) : nullptr;
  }
  // Elements (i, i + 4), as the weights have them.
  DEEPSEEK_HOST_DEVICE static mma::b_part right(const packet& x, int s) {
    return {
        {mma::low_halves(x.word[s], x.word[2 + s]), mma::high_halves(x.word[s], x.word[2 + s])}};
  }
  DEEPSEEK_HOST_DEVICE static std::uint32_t codes(std::uint32_t word, int pair) {
    return word >> (4 * pair) & 0x000f000fU;
  }
};

template <class T, class Scale>
struct fragments<T, cuda_coded::int4_form<Scale>>
    : word_fragments<T, cuda_coded::int4_form<Scale>> {
  using form = cuda_coded::int4_form<Scale>;
  struct group {
    float scale[4];
    std::uint32_t minus_zero[4];  // twice
  };
  DEEPSEEK_HOST_DEVICE static group group_at(const form& w, index_t e, index_t n, index_t k) {
    const index_t at = w.group_at(e, n, k);
    group g;
    for (int c = 0; c < 4; ++c) {
      g.scale[c] = static_cast<float>(w.scale[at + c]);
      const float zero = static_cast<float>(w.zero == nullptr ? std::uint32_t{int4_group::middle}
                                                              : std::uint32_t{w.zero[at + c]});
      g.minus_zero[c] = mma::pack<T>(-zero, -zero);
    }
    return g;
  }
  // 2^p + q has q in its last bits; what is left after - 2^p and - z is exact.
  DEEPSEEK_HOST_DEVICE static std::uint32_t pair(const packet& p, const group& g, int c, int at) {
    constexpr float base = std::is_same_v<T, bf16> ? 128.0F : 1024.0F;
    const std::uint32_t both = fragments::codes(p.word[c], at) | mma::twice<T>(base);
    return mma::added_pairs<T>(mma::added_pairs<T>(both, mma::twice<T>(-base)), g.minus_zero[c]);
  }
  DEEPSEEK_HOST_DEVICE static mma::a_part left(const packet (&p)[1], const group& g, int i, int s) {
    return {{pair(p[0], g, 2 * i, 2 * s), pair(p[0], g, 2 * i + 1, 2 * s),
             pair(p[0], g, 2 * i, 2 * s + 1), pair(p[0], g, 2 * i + 1, 2 * s + 1)}};
  }
  DEEPSEEK_HOST_DEVICE static float step_weight(const group& g, int c) { return g.scale[c]; }
};

template <class T>
struct fragments<T, cuda_coded::mxfp4_form> : word_fragments<T, cuda_coded::mxfp4_form> {
  using form = cuda_coded::mxfp4_form;
  struct group {
    float scale[4];
  };
  DEEPSEEK_HOST_DEVICE static group group_at(const form& w, index_t e, index_t n, index_t k) {
    const index_t at = w.group_at(e, n, k);
    group g;
    for (int c = 0; c < 4; ++c) g.scale[c] = static_cast<float>(w.scale[at + c]);
    return g;
  }
  // Exponent and fraction of e2m1 at the end of T's exponent: the number times a power of two.
  DEEPSEEK_HOST_DEVICE static std::uint32_t pair(const packet& p, int c, int at) {
    constexpr bool wide = std::is_same_v<T, bf16>;
    const std::uint32_t both = fragments::codes(p.word[c], at);
    const std::uint32_t number = (both & 0x00070007U) << (wide ? 6U : 9U) | (both & 0x00080008U)
                                                                                << 12U;
    return mma::scaled_pairs<T>(number, wide ? 0x1p126F : 0x1p14F);
  }
  DEEPSEEK_HOST_DEVICE static mma::a_part left(const packet (&p)[1], const group&, int i, int s) {
    return {{pair(p[0], 2 * i, 2 * s), pair(p[0], 2 * i + 1, 2 * s), pair(p[0], 2 * i, 2 * s + 1),
             pair(p[0], 2 * i + 1, 2 * s + 1)}};
  }
  DEEPSEEK_HOST_DEVICE static float step_weight(const group& g, int c) { return g.scale[c]; }
};

// A packet is one output by 16 steps: words 0, 1 and 2, 3 go with the row's packets 0 and 1.
template <class T, class Form>
struct byte_fragments : plain_fragments<Form> {
  using form = Form;
  using group = typename plain_fragments<Form>::group;
  static constexpr int tiles = 2, depth = 2 * steps, units = 4;
  static constexpr bool weighs_slabs = true;

  static bool suits(const form& w) { return w.whole; }
  DEEPSEEK_HOST_DEVICE static const void* source(const form& w, index_t e, index_t n, index_t k,
                                                 int lane, int unit) {
    const index_t own_n = n + lane / 4 * 4 + unit, own_k = k + lane % 4 * 16;
    return own_n < w.out && own_k < w.in ? w.q + (e * w.out + own_n) * w.in + own_k : nullptr;
  }
  DEEPSEEK_HOST_DEVICE static mma::a_part left(const packet (&p)[units], const group&, int i,
                                               int s) {
    using self = fragments<T, Form>;
    const std::uint32_t low = p[2 * i].word[s], high = p[2 * i + 1].word[s];
    return {{self::pair(low, 0), self::pair(high, 0), self::pair(low, 1), self::pair(high, 1)}};
  }
};

template <class T>
struct fragments<T, cuda_coded::int8_form> : byte_fragments<T, cuda_coded::int8_form> {
  // Bytes 2 h and 2 h + 1, by float, where 2^23 + a byte is exact.
  DEEPSEEK_HOST_DEVICE static std::uint32_t pair(std::uint32_t word, int h) {
    const std::uint32_t shifted = word ^ 0x80808080U;  // + 128
    float x[2];
    for (int i = 0; i < 2; ++i) {
      const auto byte = static_cast<std::uint32_t>(2 * h + i);
      x[i] = detail::bits_as<float>(mma::choose_bytes(shifted, 0x4b000000U, 0x7440U | byte)) -
             (0x1p23F + 128);
    }
    return mma::pack<T>(x[0], x[1]);
  }
  DEEPSEEK_HOST_DEVICE static float slab_weight(const cuda_coded::int8_form& w, index_t e,
                                                index_t n, index_t /*slab*/) {
    return w.scale[e * w.out + n];
  }
};

template <class T>
struct fragments<T, cuda_coded::fp8_form> : byte_fragments<T, cuda_coded::fp8_form> {
  // Exponent and fraction of e4m3 at the end of T's exponent, times a power of two; NaN is looked
  // for.
  DEEPSEEK_HOST_DEVICE static std::uint32_t pair(std::uint32_t word, int h) {
    constexpr bool wide = std::is_same_v<T, bf16>;
    const std::uint32_t both = mma::choose_bytes(word, 0, h == 0 ? 0x1404U : 0x3424U);
    const std::uint32_t size = both & 0x7f007f00U;
    const std::uint32_t number = size >> (wide ? 4U : 1U) | (both & 0x80008000U);
    const std::uint32_t nan = (size + 0x01000100U) & 0x80008000U;  // the last code
    return mma::scaled_pairs<T>(number, wide ? 0x1p120F : 0x1p8F) | (nan >> 15U) * 0x7fffU;
  }
  DEEPSEEK_HOST_DEVICE static float slab_weight(const cuda_coded::fp8_form& w, index_t e, index_t n,
                                                index_t slab) {
    return w.scale_at(e, n, slab);
  }
};

}  // namespace cuda_tensor

}  // namespace deepseek
