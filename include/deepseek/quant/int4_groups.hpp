// SPDX-License-Identifier: Apache-2.0
// Weights in 4 bits, asymmetric, one scale and zero point for each group of G neighbours of a row:
//   low = min(0, least), high = max(0, largest) of the group, s = bf16((high - low) / 15) (0 -> 1),
//   z = clamp(rne(-low / s), 0, 15), q = clamp(rne(w / s) + z, 0, 15); w ~ (q - z) s
// Asymmetric, because 16 levels then cover what the group holds: on normal weights in groups of 32
// the error is a sixth smaller than with s = largest / 7. The scale is bf16, so (q - z) s is exact
// in float however it is computed. Bytes per weight: 1/2 + 3/G. Activations stay float.
// q: int4_layout; scale and zero [columns in the order of the layout][groups]. Computed in float.
// Source: Nagel et al. 2021, section 2 (white paper).
#pragma once

#include "deepseek/quant/int4_layout.hpp"
#include "deepseek/quant/make_weight.hpp"

#include <algorithm>

namespace deepseek {

struct int4_group {
  bf16 scale = bf16(1);
  std::uint8_t zero = 0;

  float step() const { return static_cast<float>(scale); }
  std::int32_t code(float w) const {
    const float q = std::nearbyint(w / step()) + static_cast<float>(zero);
    return static_cast<std::int32_t>(std::clamp(q, 0.0F, 15.0F));
  }
  float value(std::int32_t q) const { return static_cast<float>(q - zero) * step(); }
};

// low <= 0 <= high, finite.
inline int4_group int4_group_of(float low, float high) {
  int4_group g{bf16(high / 15 - low / 15), 0};
  if (!(g.step() > 0)) return {};
  g.zero = static_cast<std::uint8_t>(std::clamp(std::nearbyint(-low / g.step()), 0.0F, 15.0F));
  return g;
}

// The weights of one expert, seen as numbers.
template <class Space>
struct int4_matrix {
  using value_type = float;
  int4_layout layout;
  const std::int32_t* q;
  const bf16* scale;
  const std::uint8_t* zero;

  index_t extent(int i) const { return i == 0 ? layout.n : layout.k; }
  float operator()(index_t n, index_t k) const {
    const index_t at = layout.group_at(n, k);
    return int4_group{scale[at], zero[at]}.value(layout.code(q[layout.word_at(n, k)], k));
  }
};

// The weights of one or several experts for ops.
template <class Space>
struct int4_operand {
  using space = Space;
  view<const std::int32_t, Space, dyn, dyn> q;     // [experts, layout.words()]
  view<const bf16, Space, dyn, dyn> scale;         // [experts, layout.groups()]
  view<const std::uint8_t, Space, dyn, dyn> zero;  // [experts, layout.groups()]
  int4_layout layout;

  index_t experts() const { return q.extent(0); }
  index_t out() const { return layout.n; }
  index_t in() const { return layout.k; }
  int4_matrix<Space> expert(index_t e) const {
    return {layout, q.data() + e * q.stride(0), scale.data() + e * scale.stride(0),
            zero.data() + e * zero.stride(0)};
  }
  void check(const char* op) const {
    layout.check(op);
    require_extent(q, 1, layout.words(), op);
    require_extent(scale, 0, experts(), op);
    require_extent(scale, 1, layout.groups(), op);
    require_extent(zero, 0, experts(), op);
    require_extent(zero, 1, layout.groups(), op);
    require_data(q, op);
    require_data(scale, op);
    require_data(zero, op);
    require(q.contiguous() && scale.contiguous() && zero.contiguous(), error_code::invalid_argument,
            op, ": the weights are not contiguous; pass what make_weight wrote");
  }
};

template <index_t G, class S, index_t O, index_t I>
struct int4_weight {
  static constexpr int4_layout layout{O, I, G};
  static constexpr index_t experts = stack_of<S>::count;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<std::int32_t, S, layout.words()> q;
  tensor<bf16, S, layout.groups()> scale;
  tensor<std::uint8_t, S, layout.groups()> zero;

  int4_operand<space> operand() const {
    return {{q.data(), {experts, layout.words()}},
            {scale.data(), {experts, layout.groups()}},
            {zero.data(), {experts, layout.groups()}},
            layout};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &int4_weight::q), buffer("scale", &int4_weight::scale),
                      buffer("zero", &int4_weight::zero)};
  }
};

template <index_t G = 32>
struct int4_groups {
  static_assert(G == 32 || G == 64 || G == 128,
                "deepseek::int4_groups: the group is not 32, 64 or 128 weights (what kernels take "
                "together); write int4_groups<32>");
  static constexpr const char* name = "int4_groups";
  static constexpr index_t group = G;
  template <class T, class S, index_t O, index_t I>
  using weight = int4_weight<G, S, O, I>;
};
template <class F>
inline constexpr bool is_int4_format = false;
template <index_t G>
inline constexpr bool is_int4_format<int4_groups<G>> = true;

// Codes of one matrix; everything of the layout is written, zeros where there is no weight.
template <class M>
void make_int4_codes(const M& w, const int4_layout& at, std::int32_t* q, bf16* scale,
                     std::uint8_t* zero) {
  std::fill_n(q, at.words(), 0);
  std::fill_n(scale, at.groups(), bf16(1));
  std::fill_n(zero, at.groups(), std::uint8_t(0));
  for (index_t n = 0; n < at.n; ++n) {
    for (index_t k0 = 0; k0 < at.k; k0 += at.group) {
      const index_t k1 = std::min(at.k, k0 + at.group);
      float low = 0, high = 0;
      for (index_t k = k0; k < k1; ++k) {
        low = std::min(low, static_cast<float>(w(n, k)));
        high = std::max(high, static_cast<float>(w(n, k)));
      }
      const int4_group g = int4_group_of(low, high);
      scale[at.group_at(n, k0)] = g.scale;
      zero[at.group_at(n, k0)] = g.zero;
      for (index_t k = k0; k < k1; ++k) {
        q[at.word_at(n, k)] |= int4_layout::in_word(g.code(static_cast<float>(w(n, k))), k);
      }
    }
  }
}

template <class F, class M, class Out>
requires is_int4_format<F>
void make_expert_weight(const F&, const M& w, const observed_range&, Out& out, index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  constexpr int4_layout at = Out::layout;
  require_weight_shape(F::name, w, {Out::experts, at.n, at.k}, expert);
  require_finite_matrix(F::name, w, expert);
  make_int4_codes(w, at, out.q.data() + expert * at.words(),
                  out.scale.data() + expert * at.groups(), out.zero.data() + expert * at.groups());
}

}  // namespace deepseek
