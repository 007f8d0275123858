// SPDX-License-Identifier: Apache-2.0
// Weights in e2m1 (4 bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) with a power of two
// (e8m0) for each 32 neighbours of a row:  w ~ e2m1(w / s) s, ties to even, beyond 6 saturated.
//   s: the least power of two >= amax / 6, or half of it where the block's squared error is then
//   smaller (this contains the rule of the standard, 2^(floor(log2 amax) - 2)); 1 for a block of
//   zeros. Code times scale is exact in float but at the ends of its range.
// Stored as int4_layout orders 4-bit codes: words [n / 16][k / 8][16], scales [n / 16][k / 32][16].
// Bytes per weight: 1/2 + 1/32. Files hold two codes a byte, the even column in the low half:
// packed_mxfp4. Inputs and sums stay float. Errors: nonfinite, shape_mismatch.
// Source: OCP Microscaling Formats 1.0 (2023), sections 5.3.3 and 6.3.
#pragma once

#include "deepseek/core/float8.hpp"
#include "deepseek/quant/int4_layout.hpp"
#include "deepseek/quant/make_weight.hpp"

#include <algorithm>

namespace deepseek {

inline constexpr index_t mxfp4_block = 32;

inline float e2m1_value(std::int32_t code) {
  constexpr float sizes[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  const float size = sizes[code & 7];
  return (code & 8) != 0 ? -size : size;
}
// x is finite. The borders are the middles; one that belongs to the lower code is even there.
inline std::int32_t e2m1_code(float x) {
  const float a = std::abs(x);
  const int below = static_cast<int>(a > 0.25F) + static_cast<int>(a > 1.25F) +
                    static_cast<int>(a > 2.5F) + static_cast<int>(a > 5);
  const int from =
      static_cast<int>(a >= 0.75F) + static_cast<int>(a >= 1.75F) + static_cast<int>(a >= 3.5F);
  return below + from + (std::signbit(x) ? 8 : 0);
}

// One matrix as files hold it, seen as numbers.
template <class Space>
struct packed_mxfp4 {
  using value_type = float;
  view<const std::uint8_t, Space, dyn, dyn> q;  // [out, in / 2]
  view<const f8_e8m0, Space, dyn, dyn> scale;   // [out, in / 32]

  index_t extent(int i) const { return i == 0 ? q.extent(0) : 2 * q.extent(1); }
  std::int32_t code(index_t n, index_t k) const { return (q(n, k / 2) >> (k % 2 * 4)) & 15; }
  float operator()(index_t n, index_t k) const {
    return e2m1_value(code(n, k)) * static_cast<float>(scale(n, k / mxfp4_block));
  }
  void check(const char* object) const {
    const index_t blocks = (extent(1) + mxfp4_block - 1) / mxfp4_block;
    require(scale.extent(0) == extent(0) && scale.extent(1) == blocks, error_code::shape_mismatch,
            object, ": the scales are ", shape_of(scale), ", expected [", extent(0), ", ", blocks,
            "] for codes ", shape_of(q), "; one for each 32 neighbours of a row");
  }
};

// The weights of one expert, seen as numbers.
template <class Space>
struct mxfp4_matrix {
  using value_type = float;
  int4_layout layout;
  const std::int32_t* q;
  const f8_e8m0* scale;

  index_t extent(int i) const { return i == 0 ? layout.n : layout.k; }
  float operator()(index_t n, index_t k) const {
    const std::int32_t code = layout.code(q[layout.word_at(n, k)], k);
    return e2m1_value(code) * static_cast<float>(scale[layout.group_at(n, k)]);
  }
};

// The weights of one or several experts for ops.
template <class Space>
struct mxfp4_operand {
  using space = Space;
  view<const std::int32_t, Space, dyn, dyn> q;  // [experts, layout.words()]
  view<const f8_e8m0, Space, dyn, dyn> scale;   // [experts, layout.groups()]
  int4_layout layout;                           // group 32

  index_t experts() const { return q.extent(0); }
  index_t out() const { return layout.n; }
  index_t in() const { return layout.k; }
  mxfp4_matrix<Space> expert(index_t e) const {
    return {layout, q.data() + e * q.stride(0), scale.data() + e * scale.stride(0)};
  }
  void check(const char* op) const {
    require(layout.group == mxfp4_block, error_code::config, op, ": blocks of ", layout.group,
            " weights; mxfp4 has blocks of 32");
    require_extent(q, 1, layout.words(), op);
    require_extent(scale, 0, experts(), op);
    require_extent(scale, 1, layout.groups(), op);
    require_data(q, op);
    require_data(scale, op);
    require(q.contiguous() && scale.contiguous(), error_code::invalid_argument, op,
            ": the weights are not contiguous; pass what make_weight wrote");
  }
};

template <class S, index_t O, index_t I>
struct mxfp4_weight {
  static constexpr int4_layout layout{O, I, mxfp4_block};
  static constexpr index_t experts = stack_of<S>::count;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<std::int32_t, S, layout.words()> q;
  tensor<f8_e8m0, S, layout.groups()> scale;

  mxfp4_operand<space> operand() const {
    return {
        {q.data(), {experts, layout.words()}}, {scale.data(), {experts, layout.groups()}}, layout};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &mxfp4_weight::q), buffer("scale", &mxfp4_weight::scale)};
  }
};

struct mxfp4 {
  static constexpr const char* name = "mxfp4";
  template <class T, class S, index_t O, index_t I>
  using weight = mxfp4_weight<S, O, I>;
};

// Of numbers x(0) .. x(count - 1).
inline f8_e8m0 mxfp4_scale_of(index_t count, const auto& x) {
  float amax = 0;
  for (index_t k = 0; k < count; ++k) amax = std::max(amax, std::abs(static_cast<float>(x(k))));
  if (amax == 0) return f8_e8m0(1.0F);
  const auto error = [&](float scale) {
    double sum = 0;
    for (index_t k = 0; k < count; ++k) {
      const float w = static_cast<float>(x(k));
      const double d =
          static_cast<double>(e2m1_value(e2m1_code(w / scale)) * scale) - static_cast<double>(w);
      sum += d * d;
    }
    return sum;
  };
  const f8_e8m0 wide(amax / 6);
  if (wide.bits == 0) return wide;
  const auto narrow = f8_e8m0::from_bits(static_cast<std::uint8_t>(wide.bits - 1));
  return error(static_cast<float>(narrow)) < error(static_cast<float>(wide)) ? narrow : wide;
}

// Codes of one matrix; everything of the layout is written, zeros where there is no weight.
template <class M>
void make_mxfp4_codes(const M& w, const int4_layout& at, std::int32_t* q, f8_e8m0* scale) {
  std::fill_n(q, at.words(), 0);
  std::fill_n(scale, at.groups(), f8_e8m0(1.0F));
  for (index_t n = 0; n < at.n; ++n) {
    for (index_t k0 = 0; k0 < at.k; k0 += mxfp4_block) {
      const index_t count = std::min(mxfp4_block, at.k - k0);
      f8_e8m0& s = scale[at.group_at(n, k0)];
      if constexpr (std::is_same_v<M, packed_mxfp4<host>>) {
        s = w.scale(n, k0 / mxfp4_block);  // already so: taken as it is
      } else {
        s = mxfp4_scale_of(count, [&](index_t k) { return w(n, k0 + k); });
      }
      for (index_t k = k0; k < k0 + count; ++k) {
        std::int32_t code = 0;
        if constexpr (std::is_same_v<M, packed_mxfp4<host>>) {
          code = w.code(n, k);
        } else {
          code = e2m1_code(static_cast<float>(w(n, k)) / static_cast<float>(s));
        }
        q[at.word_at(n, k)] |= int4_layout::in_word(code, k);
      }
    }
  }
}

template <class M, class Out>
void make_expert_weight(const mxfp4&, const M& w, const observed_range&, Out& out, index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  constexpr int4_layout at = Out::layout;
  require_weight_shape(mxfp4::name, w, {Out::experts, at.n, at.k}, expert);
  if constexpr (std::is_same_v<M, packed_mxfp4<host>>) {
    w.check(mxfp4::name);
  } else {
    require_finite_matrix(mxfp4::name, w, expert);
  }
  make_mxfp4_codes(w, at, out.q.data() + expert * at.words(),
                   out.scale.data() + expert * at.groups());
}

}  // namespace deepseek
