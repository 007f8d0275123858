// SPDX-License-Identifier: Apache-2.0
// Weights in 4 bits with one scale for each group of G neighbours of a row; w ~ (q - z) s.
// int4_groups<G, Scale>, asymmetric: low = min(0, least), high = max(0, largest) of the group,
//   s = Scale((high - low) / 15) (0 -> 1), z = clamp(rne(-low / s), 0, 15),
//   q = clamp(rne(w / s) + z, 0, 15). z is stored; those of files may be 16
//   (quant/packed_int4.hpp).
// int4_symmetric<G, Scale>: s = Scale(largest |w| / 7) (0 -> 1), z = 8 for all, not stored,
//   q = clamp(rne(w / s) + 8, 0, 15).
// Asymmetric by default: 16 levels then cover what the group holds; on normal weights in groups of
// 32 the error is a sixth smaller. Scale is bf16, or f16 as in files of GPTQ and AWQ: (q - z) s is
// exact in float however it is computed. Bytes per weight: 1/2 + 3/G, symmetric 1/2 + 2/G.
// Activations stay float. q: int4_layout; scale and zero [columns in the order of the
// layout][groups]. Computed in float. Source: Nagel et al. 2021, section 2 (white paper).
#pragma once

#include "deepseek/quant/int4_layout.hpp"
#include "deepseek/quant/make_weight.hpp"

#include <algorithm>

namespace deepseek {

enum class zero_points { stored, middle };

struct int4_group {
  float scale = 1;  // > 0, at most 11 significant bits
  std::uint8_t zero = 0;

  static constexpr std::uint8_t middle = 8;

  float step() const { return scale; }
  std::int32_t code(float w) const {
    const float q = std::nearbyint(w / scale) + static_cast<float>(zero);
    return static_cast<std::int32_t>(std::clamp(q, 0.0F, 15.0F));
  }
  float value(std::int32_t q) const { return static_cast<float>(q - zero) * scale; }
};

// Rounded to the type in which it is stored; f16 stays finite.
template <class Scale>
float int4_scale_of(float s) {
  if constexpr (std::is_same_v<Scale, f16>) s = std::min(s, 65504.0F);
  return static_cast<float>(Scale(s));
}

// low <= 0 <= high, finite.
template <class Scale = bf16>
int4_group int4_group_of(float low, float high) {
  int4_group g{int4_scale_of<Scale>(high / 15 - low / 15), 0};
  if (!(g.scale > 0)) return {};
  g.zero = static_cast<std::uint8_t>(std::clamp(std::nearbyint(-low / g.scale), 0.0F, 15.0F));
  return g;
}
template <class Scale = bf16>
int4_group int4_symmetric_group_of(float low, float high) {
  const float s = int4_scale_of<Scale>(std::max(high, -low) / 7);
  return {s > 0 ? s : 1.0F, int4_group::middle};
}

// The weights of one expert, seen as numbers. zero: null where it is the middle for all.
template <class Space, class Scale = bf16>
struct int4_matrix {
  using value_type = float;
  int4_layout layout;
  const std::int32_t* q;
  const Scale* scale;
  const std::uint8_t* zero;

  index_t extent(int i) const { return i == 0 ? layout.n : layout.k; }
  int4_group group(index_t n, index_t k) const {
    const index_t at = layout.group_at(n, k);
    return {static_cast<float>(scale[at]), zero == nullptr ? int4_group::middle : zero[at]};
  }
  float operator()(index_t n, index_t k) const {
    return group(n, k).value(layout.code(q[layout.word_at(n, k)], k));
  }
};

// The weights of one or several experts for ops.
template <class Space, class Scale = bf16>
struct int4_operand {
  using space = Space;
  view<const std::int32_t, Space, dyn, dyn> q;     // [experts, layout.words()]
  view<const Scale, Space, dyn, dyn> scale;        // [experts, layout.groups()]
  view<const std::uint8_t, Space, dyn, dyn> zero;  // [experts, layout.groups()], or null: all 8
  int4_layout layout;

  index_t experts() const { return q.extent(0); }
  index_t out() const { return layout.n; }
  index_t in() const { return layout.k; }
  int4_matrix<Space, Scale> expert(index_t e) const {
    const std::uint8_t* zeros = zero.data() == nullptr ? nullptr : zero.data() + e * zero.stride(0);
    return {layout, q.data() + e * q.stride(0), scale.data() + e * scale.stride(0), zeros};
  }
  void check(const char* op) const {
    layout.check(op);
    require_extent(q, 1, layout.words(), op);
    require_extent(scale, 0, experts(), op);
    require_extent(scale, 1, layout.groups(), op);
    require_data(q, op);
    require_data(scale, op);
    if (zero.data() != nullptr) {
      require_extent(zero, 0, experts(), op);
      require_extent(zero, 1, layout.groups(), op);
    }
    require(q.contiguous() && scale.contiguous() && (zero.data() == nullptr || zero.contiguous()),
            error_code::invalid_argument, op,
            ": the weights are not contiguous; pass what make_weight wrote");
  }
};

// Codes and scales, and the zero points where they are stored.
template <index_t G, class Scale, class S, index_t O, index_t I>
struct int4_codes {
  static constexpr int4_layout layout{O, I, G};
  static constexpr index_t experts = stack_of<S>::count;
  using space = typename stack_of<S>::space;
  using scale_type = Scale;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<std::int32_t, S, layout.words()> q;
  tensor<Scale, S, layout.groups()> scale;

  int4_operand<space, Scale> operand() const {
    return {{q.data(), {experts, layout.words()}},
            {scale.data(), {experts, layout.groups()}},
            {nullptr, {experts, layout.groups()}},
            layout};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &int4_codes::q), buffer("scale", &int4_codes::scale)};
  }
};
template <index_t G, class Scale, class S, index_t O, index_t I>
struct int4_codes_and_zeros : int4_codes<G, Scale, S, O, I> {
  using base = int4_codes<G, Scale, S, O, I>;
  tensor<std::uint8_t, S, base::layout.groups()> zero;

  int4_operand<typename base::space, Scale> operand() const {
    auto w = base::operand();
    w.zero = {zero.data(), {base::experts, base::layout.groups()}};
    return w;
  }
  static constexpr auto fields() {
    return std::tuple_cat(base::fields(), std::tuple{buffer("zero", &int4_codes_and_zeros::zero)});
  }
};

template <zero_points Z, index_t G, class Scale>
struct int4_format {
  static_assert(G == 32 || G == 64 || G == 128,
                "deepseek::int4_groups: the group is not 32, 64 or 128 weights (what kernels take "
                "together); write int4_groups<32>");
  static_assert(std::is_same_v<Scale, bf16> || std::is_same_v<Scale, f16>,
                "deepseek::int4_groups: the scale is not bf16 or f16 (others are not exact times a "
                "code); write int4_groups<32, bf16>");
  static constexpr zero_points zeros = Z;
  static constexpr index_t group = G;
  using scale_type = Scale;
  template <class T, class S, index_t O, index_t I>
  using weight =
      std::conditional_t<Z == zero_points::stored, int4_codes_and_zeros<G, Scale, S, O, I>,
                         int4_codes<G, Scale, S, O, I>>;

  static int4_group group_of(float low, float high) {
    return Z == zero_points::stored ? int4_group_of<Scale>(low, high)
                                    : int4_symmetric_group_of<Scale>(low, high);
  }
};
template <index_t G = 32, class Scale = bf16>
struct int4_groups : int4_format<zero_points::stored, G, Scale> {
  static constexpr const char* name = "int4_groups";
};
template <index_t G = 32, class Scale = bf16>
struct int4_symmetric : int4_format<zero_points::middle, G, Scale> {
  static constexpr const char* name = "int4_symmetric";
};
template <class F>
concept Int4Format = requires {
  { F::zeros } -> std::convertible_to<zero_points>;
};

// Where the codes of one matrix go; zero: null where none is stored.
template <class Scale>
struct int4_target {
  std::int32_t* q;
  Scale* scale;
  std::uint8_t* zero;

  // Everything of the layout is written: zeros where there is no weight.
  void clear(const int4_layout& at) const {
    std::fill_n(q, at.words(), 0);
    std::fill_n(scale, at.groups(), Scale(1));
    if (zero != nullptr) std::fill_n(zero, at.groups(), std::uint8_t(0));
  }
  void put(const int4_group& g, index_t at) const {
    scale[at] = Scale(g.scale);
    if (zero != nullptr) zero[at] = g.zero;
  }
};

// The range of w[n, k0 .. k1 - 1]; zero is inside.
struct int4_run {
  index_t n, k0, k1;
};
template <class M>
std::pair<float, float> int4_limits(const M& w, const int4_run& at) {
  float low = 0, high = 0;
  for (index_t k = at.k0; k < at.k1; ++k) {
    low = std::min(low, static_cast<float>(w(at.n, k)));
    high = std::max(high, static_cast<float>(w(at.n, k)));
  }
  return {low, high};
}

template <Int4Format F, class M>
void make_int4_codes(const F&, const M& w, const int4_layout& at,
                     const int4_target<typename F::scale_type>& to) {
  to.clear(at);
  for (index_t n = 0; n < at.n; ++n) {
    for (index_t k0 = 0; k0 < at.k; k0 += at.group) {
      const index_t k1 = std::min(at.k, k0 + at.group);
      const auto limits = int4_limits(w, {n, k0, k1});
      const int4_group g = F::group_of(limits.first, limits.second);
      to.put(g, at.group_at(n, k0));
      for (index_t k = k0; k < k1; ++k) {
        to.q[at.word_at(n, k)] |= int4_layout::in_word(g.code(static_cast<float>(w(n, k))), k);
      }
    }
  }
}

// Matrices that are such codes already: code(n, k) and group(n, k).
template <class M>
concept Int4Source = requires(const M& m, index_t i) {
  { m.code(i, i) } -> std::convertible_to<std::int32_t>;
  { m.group(i, i) } -> std::convertible_to<int4_group>;
};

// Whether the format holds the codes of this source bit for bit: each run of its groups has one
// scale, which its scale type represents, and a zero point that it can have.
template <Int4Format F, Int4Source M>
bool is_taken_as_is(const F&, const M& w) {
  for (index_t n = 0; n < w.extent(0); ++n) {
    for (index_t k = 0; k < w.extent(1); ++k) {
      const int4_group g = w.group(n, k), first = w.group(n, k / F::group * F::group);
      if (g.scale != first.scale || g.zero != first.zero) return false;
      if (static_cast<float>(typename F::scale_type(g.scale)) != g.scale) return false;
      if (F::zeros == zero_points::middle && g.zero != int4_group::middle) return false;
    }
  }
  return true;
}

template <Int4Format F, Int4Source M>
void take_int4_codes(const F&, const M& w, const int4_layout& at,
                     const int4_target<typename F::scale_type>& to) {
  to.clear(at);
  for (index_t n = 0; n < at.n; ++n) {
    for (index_t k = 0; k < at.k; ++k) {
      if (k % at.group == 0) to.put(w.group(n, k), at.group_at(n, k));
      to.q[at.word_at(n, k)] |= int4_layout::in_word(w.code(n, k), k);
    }
  }
}

template <Int4Format F, class M, class Out>
void make_expert_weight(const F& format, const M& w, const observed_range&, Out& out,
                        index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  constexpr int4_layout at = Out::layout;
  if constexpr (requires { w.check(F::name); }) w.check(F::name);
  require_weight_shape(F::name, w, {Out::experts, at.n, at.k}, expert);
  require_finite_matrix(F::name, w, expert);
  int4_target<typename F::scale_type> to{out.q.data() + expert * at.words(),
                                         out.scale.data() + expert * at.groups(), nullptr};
  if constexpr (F::zeros == zero_points::stored) to.zero = out.zero.data() + expert * at.groups();
  if constexpr (Int4Source<M>) {
    if (is_taken_as_is(format, w)) return take_int4_codes(format, w, at, to);
  }
  make_int4_codes(format, w, at, to);
}

}  // namespace deepseek
