// SPDX-License-Identifier: Apache-2.0
// The values and slopes of the activation kinds, and the row bodies of silu, gelu, relu, sigmoid
// and swiglu (formulas in ops/activation.hpp, ops/swiglu.hpp), shared by reference and cuda. A, the
// type of the arithmetic, is float or double.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/activation.hpp"

namespace deepseek {

// Far outside, a function has its limit already; without a bound infinity times 0 would be NaN.
template <class A>
DEEPSEEK_HOST_DEVICE A at_least(A x, A low) {
  return x < low ? low : x;
}
template <class A>
DEEPSEEK_HOST_DEVICE A bounded(A x) {
  return x > A(1e4) ? A(1e4) : at_least(x, A(-1e4));
}

template <class A>
DEEPSEEK_HOST_DEVICE A activation_value(silu_kind, A x) {
  return math::silu(at_least(x, A(-1e4)));
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_slope(silu_kind, A x) {
  return math::silu_derivative(bounded(x));
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_value(gelu_kind, A x) {
  return math::gelu(at_least(x, A(-1e4)));
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_slope(gelu_kind, A x) {
  return math::gelu_derivative(bounded(x));
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_value(sigmoid_kind, A x) {
  return math::sigmoid(x);
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_slope(sigmoid_kind, A x) {
  return math::sigmoid_derivative(x);
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_value(relu_kind, A x) {
  return x <= A(0) ? A(0) : x;  // written so that NaN stays NaN
}
template <class A>
DEEPSEEK_HOST_DEVICE A activation_slope(relu_kind, A x) {
  if (x <= A(0)) return A(0);
  return x > A(0) ? A(1) : x;
}

template <class Kind, class Team, class X, class Y>
DEEPSEEK_HOST_DEVICE void activation_row(const Team& team, Kind kind, const X& x, const Y& y) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    y(i) = static_cast<out>(activation_value(kind, static_cast<sum>(x(i))));
  }
}

template <class Kind, class Team, class X, class DY, class DX>
DEEPSEEK_HOST_DEVICE void activation_backward_row(const Team& team, Kind kind, const X& x,
                                                  const DY& dy, const DX& dx) {
  using out = typename DX::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    const sum slope = activation_slope(kind, static_cast<sum>(x(i)));
    dx(i) = static_cast<out>(slope * static_cast<sum>(dy(i)));
  }
}

// x cut to low .. high; NaN stays.
template <class A>
DEEPSEEK_HOST_DEVICE A cut(A x, A low, A high) {
  return x > high ? high : at_least(x, low);
}

// One element of swiglu; limit 0: none.
template <class A>
DEEPSEEK_HOST_DEVICE A swiglu_bound(double limit) {
  return limit > 0 ? static_cast<A>(limit) : math::infinity<A>;
}
template <class A>
DEEPSEEK_HOST_DEVICE A swiglu_value(A gate, A up, double limit) {
  const A high = swiglu_bound<A>(limit);
  return activation_value(silu_kind{}, cut(gate, -math::infinity<A>, high)) * cut(up, -high, high);
}

template <class A>
struct swiglu_gradient {
  A gate, up;
};
template <class A>
DEEPSEEK_HOST_DEVICE swiglu_gradient<A> swiglu_gradient_at(A gate, A up, A dy, double limit) {
  const A high = swiglu_bound<A>(limit);
  const A kept_gate = gate > high ? high : gate, kept_up = cut(up, -high, high);
  const A dgate = dy * kept_up * activation_slope(silu_kind{}, gate);
  const A dup = dy * activation_value(silu_kind{}, kept_gate);
  return {gate > high ? A(0) : dgate, up > high || up < -high ? A(0) : dup};
}

template <class Team, class In, class Y>
DEEPSEEK_HOST_DEVICE void swiglu_row(const Team& team, const In& in, const Y& y, double limit) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < in.gate.extent(0); i += team.size()) {
    y(i) = static_cast<out>(
        swiglu_value(static_cast<sum>(in.gate(i)), static_cast<sum>(in.up(i)), limit));
  }
}

template <class Team, class In, class DY, class Out>
DEEPSEEK_HOST_DEVICE void swiglu_backward_row(const Team& team, const In& in, const DY& dy,
                                              const Out& out, double limit) {
  using gate_type = typename decltype(out.dgate)::value_type;
  using up_type = typename decltype(out.dup)::value_type;
  using sum = std::common_type_t<accumulate_t<gate_type>, accumulate_t<up_type>>;
  for (index_t i = team.rank(); i < in.gate.extent(0); i += team.size()) {
    const auto d = swiglu_gradient_at(static_cast<sum>(in.gate(i)), static_cast<sum>(in.up(i)),
                                      static_cast<sum>(dy(i)), limit);
    out.dgate(i) = static_cast<gate_type>(d.gate);
    out.dup(i) = static_cast<up_type>(d.up);
  }
}

}  // namespace deepseek
