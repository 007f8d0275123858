// SPDX-License-Identifier: Apache-2.0
// Formats with 8-bit integers: weights signed, symmetric, one scale for each output channel;
// activations unsigned, asymmetric.
//   weight: s_n = max_k |w[n, k]| / 127 (0 -> 1), q = clamp(rne(w / s_n), -127, 127)
//   activation: s = (high - low) / 255 (0 -> 1), z = clamp(rne(-low / s), 0, 255),
//               q = clamp(rne(x / s) + z, 0, 255); low <= 0 <= high, so zero is exact
// w8a8: range from a calibration, its extremes; w8a8_averaged, w8a8_percentile, w8a8_least_error by
// other rules (quant/calibrate.hpp; a rule of yours: struct mine : int8_observed<rule> with a
// name). w8a8_dynamic: range of all the rows of a call, so a row depends on its batch.
// w8a8_per_token: range of each row alone. Sources: Jacob et al. 2018, section 2; Nagel et al.
// 2021, section 2 (white paper).
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/parameters.hpp"
#include "deepseek/quant/calibrate.hpp"
#include "deepseek/quant/int8_layout.hpp"
#include "deepseek/quant/make_weight.hpp"

#include <cmath>

namespace deepseek {

enum class activation_range { observed, per_call, per_token };

struct int8_range {
  float scale = 1;
  std::int32_t zero = 0;
};

// low <= 0 <= high, finite: the step between codes. A is the type in which values are computed.
template <class A>
DEEPSEEK_HOST_DEVICE A int8_step_of(A low, A high) {
  const A width = high - low;
  return width - width == A(0) ? width / A(255) : high / A(255) - low / A(255);
}
template <class A>
DEEPSEEK_HOST_DEVICE bool int8_step_fits(A step) {
  return step <= static_cast<A>(float_traits<float>::largest);
}
template <class A>
DEEPSEEK_HOST_DEVICE A clamped_to_byte(A code) {
  return code < A(0) ? A(0) : code > A(255) ? A(255) : code;
}
template <class A>
DEEPSEEK_HOST_DEVICE int8_range int8_range_with(A step, A low) {
  int8_range r{static_cast<float>(step), 0};
  if (!(r.scale > 0)) return {};
  r.zero =
      static_cast<std::int32_t>(clamped_to_byte(std::nearbyint(-low / static_cast<A>(r.scale))));
  return r;
}
template <class A>
[[noreturn]] void fail_int8_range(A low, A high) {
  fail(error_code::nonfinite, "int8: values from ", low, " to ", high,
       " need a scale beyond float; scale them down");
}
template <class A>
int8_range int8_range_of(A low, A high) {
  const A step = int8_step_of(low, high);
  if (!int8_step_fits(step)) fail_int8_range(low, high);
  return int8_range_with(step, low);
}
// x is not NaN; infinities saturate.
template <class A>
DEEPSEEK_HOST_DEVICE std::uint8_t int8_code(A x, const int8_range& r) {
  const A code = std::nearbyint(x / static_cast<A>(r.scale)) + static_cast<A>(r.zero);
  return static_cast<std::uint8_t>(clamped_to_byte(code));
}

// Views of an int8 weight of one or several experts, and how its input becomes bytes.
template <class Space>
struct int8_operand {
  view<const std::int8_t, Space, dyn, dyn> q;     // [experts, layout().size()]
  view<const float, Space, dyn, dyn> scale;       // [experts, n]
  view<const std::int32_t, Space, dyn, dyn> sum;  // [experts, n]: sum of q over k
  index_t depth = 0;                              // k
  activation_range range = activation_range::per_call;
  view<const float, Space, dyn> x_scale{};        // [1] where the range was observed
  view<const std::int32_t, Space, dyn> x_zero{};  // [1]

  index_t experts() const { return q.extent(0); }
  int8_layout layout() const { return {scale.extent(1), depth}; }
  int8_operand expert(index_t e) const {
    return {rows(q, e, 1), rows(scale, e, 1), rows(sum, e, 1), depth, range, x_scale, x_zero};
  }
};

// q, scale and sum of each expert; nothing for the activations, whose range is found in each call.
template <activation_range R, class S, index_t O, index_t I>
struct int8_weight {
  static_assert(I <= int8_layout::deepest,
                "deepseek::w8a8: the layer is wider than 66311 inputs (its products do not fit 32 "
                "bits); split the layer");
  static constexpr activation_range range = R;
  static constexpr int8_layout layout{O, I};
  static constexpr index_t experts = stack_of<S>::count;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<std::int8_t, S, layout.size()> q;
  tensor<float, S, O> scale;
  tensor<std::int32_t, S, O> sum;

  int8_operand<space> operand() const {
    return {{q.data(), {experts, layout.size()}},
            {scale.data(), {experts, O}},
            {sum.data(), {experts, O}},
            I,
            R};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &int8_weight::q), buffer("scale", &int8_weight::scale),
                      buffer("sum", &int8_weight::sum)};
  }
};

// With the observed range of the input, shared by the experts of a stack.
template <class S, index_t O, index_t I>
struct int8_weight_observed : int8_weight<activation_range::observed, S, O, I> {
  using base = int8_weight<activation_range::observed, S, O, I>;
  using typename base::space;
  tensor<float, space, 1> x_scale;
  tensor<std::int32_t, space, 1> x_zero;

  int8_operand<space> operand() const {
    auto w = base::operand();
    w.x_scale = x_scale.view();
    w.x_zero = x_zero.view();
    return w;
  }
  static constexpr auto fields() {
    return std::tuple_cat(base::fields(),
                          std::tuple{buffer("x_scale", &int8_weight_observed::x_scale),
                                     buffer("x_zero", &int8_weight_observed::x_zero)});
  }
};

template <CalibrationRule Rule>
struct int8_observed {
  static constexpr activation_range range = activation_range::observed;
  using rule = Rule;
  static constexpr bool rows_are_independent = true;
  template <class T, class S, index_t O, index_t I>
  using weight = int8_weight_observed<S, O, I>;
};
template <activation_range R>
struct int8_dynamic {
  static constexpr activation_range range = R;
  static constexpr bool rows_are_independent = R == activation_range::per_token;
  template <class T, class S, index_t O, index_t I>
  using weight = int8_weight<R, S, O, I>;
};

struct w8a8 : int8_observed<min_max> {
  static constexpr const char* name = "w8a8";
};
struct w8a8_averaged : int8_observed<moving_average> {
  static constexpr const char* name = "w8a8_averaged";
};
struct w8a8_percentile : int8_observed<percentile<9999>> {
  static constexpr const char* name = "w8a8_percentile";
};
struct w8a8_least_error : int8_observed<least_error> {
  static constexpr const char* name = "w8a8_least_error";
};
struct w8a8_dynamic : int8_dynamic<activation_range::per_call> {
  static constexpr const char* name = "w8a8_dynamic";
};
struct w8a8_per_token : int8_dynamic<activation_range::per_token> {
  static constexpr const char* name = "w8a8_per_token";
};

template <class F>
concept Int8Format = requires {
  { F::range } -> std::convertible_to<activation_range>;
};
template <Int8Format F>
inline constexpr bool needs_calibration<F> = F::range == activation_range::observed;

}  // namespace deepseek
