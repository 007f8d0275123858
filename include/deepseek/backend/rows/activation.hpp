// SPDX-License-Identifier: Apache-2.0
// The scalar values and slopes of the activations and their row bodies (formulas in
// ops/activation.hpp and ops/swiglu.hpp), shared by reference and cuda.
// A, the type of the arithmetic, is float or double. Infinities give the limits, not NaN.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/activation.hpp"

#include <cmath>

namespace deepseek::activation {

template <class A>
DEEPSEEK_HOST_DEVICE A sigmoid(A x) {
  return A(1) / (A(1) + std::exp(-x));
}
// Below this e^-x is infinite in A and x * sigmoid(x) rounds to zero; it keeps -inf from NaN.
template <class A>
inline constexpr A silu_cut = std::is_same_v<A, double> ? A(-745) : A(-104);

template <class A>
DEEPSEEK_HOST_DEVICE A value(silu, A x) {
  if (x < silu_cut<A>) return A(0);
  return x * sigmoid(x);
}
template <class A>
DEEPSEEK_HOST_DEVICE A slope(silu, A x) {
  if (x < silu_cut<A>) return A(0);
  if (x > -silu_cut<A>) return A(1);
  const A s = sigmoid(x);
  return s * (A(1) + x * (A(1) - s));
}

// Phi(x) from erfc of -x: no cancellation for negative x.
template <class A>
DEEPSEEK_HOST_DEVICE A normal_below(A x) {
  return A(0.5) * std::erfc(x * A(-0.70710678118654752440));
}
template <class A>
inline constexpr A gelu_cut = std::is_same_v<A, double> ? A(-39) : A(-15);

template <class A>
DEEPSEEK_HOST_DEVICE A value(gelu, A x) {
  if (x < gelu_cut<A>) return A(0);
  return x * normal_below(x);
}
template <class A>
DEEPSEEK_HOST_DEVICE A slope(gelu, A x) {
  if (x < gelu_cut<A>) return A(0);
  if (x > -gelu_cut<A>) return A(1);
  const A density = A(0.39894228040143267794) * std::exp(A(-0.5) * x * x);
  return normal_below(x) + x * density;
}

template <class A>
DEEPSEEK_HOST_DEVICE A value(relu, A x) {
  return x <= A(0) ? A(0) : x;  // written so that NaN stays NaN
}
template <class A>
DEEPSEEK_HOST_DEVICE A slope(relu, A x) {
  if (x <= A(0)) return A(0);
  return x > A(0) ? A(1) : x;
}

}  // namespace deepseek::activation

namespace deepseek {

template <class Kind, class Team, class X, class Y>
DEEPSEEK_HOST_DEVICE void activation_row(const Team& team, Kind kind, const X& x, const Y& y) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    y(i) = static_cast<out>(activation::value(kind, static_cast<sum>(x(i))));
  }
}

template <class Kind, class Team, class X, class DY, class DX>
DEEPSEEK_HOST_DEVICE void activation_backward_row(const Team& team, Kind kind, const X& x,
                                                  const DY& dy, const DX& dx) {
  using out = typename DX::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    const sum slope = activation::slope(kind, static_cast<sum>(x(i)));
    dx(i) = static_cast<out>(slope * static_cast<sum>(dy(i)));
  }
}

template <class Team, class Gate, class Up, class Y>
DEEPSEEK_HOST_DEVICE void swiglu_row(const Team& team, const Gate& gate, const Up& up, const Y& y) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  for (index_t i = team.rank(); i < gate.extent(0); i += team.size()) {
    const sum silu = activation::value(activation::silu{}, static_cast<sum>(gate(i)));
    y(i) = static_cast<out>(silu * static_cast<sum>(up(i)));
  }
}

template <class Team, class In, class DY, class Out>
DEEPSEEK_HOST_DEVICE void swiglu_backward_row(const Team& team, const In& in, const DY& dy,
                                              const Out& out) {
  using gate_type = typename decltype(out.dgate)::value_type;
  using up_type = typename decltype(out.dup)::value_type;
  using sum = std::common_type_t<accumulate_t<gate_type>, accumulate_t<up_type>>;
  for (index_t i = team.rank(); i < in.gate.extent(0); i += team.size()) {
    const sum gate = static_cast<sum>(in.gate(i)), d = static_cast<sum>(dy(i));
    const sum dgate = d * static_cast<sum>(in.up(i)) * activation::slope(activation::silu{}, gate);
    const sum dup = d * activation::value(activation::silu{}, gate);
    out.dgate(i) = static_cast<gate_type>(dgate);
    out.dup(i) = static_cast<up_type>(dup);
  }
}

}  // namespace deepseek
