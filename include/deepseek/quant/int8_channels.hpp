// SPDX-License-Identifier: Apache-2.0
// Weights only in 8-bit integers, symmetric, one float scale for each output channel:
//   s_n = max_k |w[n, k]| / 127 (0 -> 1), q = clamp(rne(w / s_n), -127, 127), w ~ q s_n
// rounded once to float. Inputs and sums stay float, so no calibration is needed and rows are
// independent; a byte per weight is read instead of four. q [out, in] row-major, scale [out].
// Computed in accumulate_t of the matrix's elements. Errors: nonfinite, shape_mismatch.
// Source: Nagel et al. 2021, section 2 (white paper).
#pragma once

#include "deepseek/quant/int8_codes.hpp"
#include "deepseek/quant/make_weight.hpp"

namespace deepseek {

// One matrix of weights, seen as numbers.
template <class Space>
struct int8_channels_matrix {
  using value_type = float;
  view<const std::int8_t, Space, dyn, dyn> q;
  view<const float, Space, dyn> scale;

  index_t extent(int i) const { return q.extent(i); }
  float operator()(index_t n, index_t k) const { return static_cast<float>(q(n, k)) * scale(n); }
};

// The weights of one or several experts for ops.
template <class Space>
struct int8_channels_operand {
  using space = Space;
  view<const std::int8_t, Space, dyn, dyn, dyn> q;  // [experts, out, in]
  view<const float, Space, dyn, dyn> scale;         // [experts, out]

  index_t experts() const { return q.extent(0); }
  index_t out() const { return q.extent(1); }
  index_t in() const { return q.extent(2); }
  int8_channels_matrix<Space> expert(index_t e) const { return {slice(q, e), slice(scale, e)}; }
  void check(const char* op) const {
    require_extent(scale, 0, experts(), op);
    require_extent(scale, 1, out(), op);
    require_data(q, op);
    require_data(scale, op);
    require(q.contiguous() && scale.contiguous(), error_code::invalid_argument, op,
            ": the weights are not contiguous; pass what make_weight wrote");
  }
};

template <class S, index_t O, index_t I>
struct int8_channels_weight {
  static constexpr index_t experts = stack_of<S>::count, out = O, in = I;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<std::int8_t, S, O, I> q;
  tensor<float, S, O> scale;

  int8_channels_operand<space> operand() const {
    return {{q.data(), {experts, O, I}}, {scale.data(), {experts, O}}};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &int8_channels_weight::q),
                      buffer("scale", &int8_channels_weight::scale)};
  }
};

struct int8_channels {
  static constexpr const char* name = "int8_channels";
  template <class T, class S, index_t O, index_t I>
  using weight = int8_channels_weight<S, O, I>;
};

template <class M, class Out>
void make_expert_weight(const int8_channels&, const M& w, const observed_range&, Out& out,
                        index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  require_weight_shape(int8_channels::name, w, {Out::experts, Out::out, Out::in}, expert);
  require_finite_matrix(int8_channels::name, w, expert);
  using A = accumulate_t<typename M::value_type>;
  for (index_t n = 0; n < Out::out; ++n) {
    const index_t row = expert * Out::out + n;
    std::int8_t* const to = out.q.data() + row * Out::in;
    make_int8_channel<A>(w, n, out.scale.data()[row], [&](index_t k, std::int8_t q) { to[k] = q; });
  }
}

}  // namespace deepseek
