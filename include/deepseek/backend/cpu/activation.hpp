// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu, sigmoid and swiglu on cpu, contiguous rows, computed in float (float, bf16, f16
// in any mixture) or double; see ops/activation.hpp and ops/swiglu.hpp. float beside double and
// other strides take the reference.
// The sigmoid is formed from e^-|x|, so that its left tail keeps its relative accuracy.
#pragma once

#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/activation.hpp"
#include "deepseek/backend/reference/swiglu.hpp"

namespace deepseek {
namespace kernels {

// sigmoid(x) and sigmoid(-x), both without cancellation.
template <class T>
struct sigmoid_pair {
  simd::pack<T> plus, minus;
};
template <class T>
DEEPSEEK_INLINE sigmoid_pair<T> sigmoids(simd::pack<T> x) {
  using p = simd::pack<T>;
  const p one = p::broadcast(1), zero = p::zero();
  const p e = simd::exp(-simd::abs(x)), share = one / (one + e);
  const p rest = e * share;
  return {select_less(x, zero, rest, share), select_less(x, zero, share, rest)};
}
// Infinity times 0 is kept away; NaN passes.
template <class T>
DEEPSEEK_INLINE simd::pack<T> at_least(simd::pack<T> x) {
  return max(simd::pack<T>::broadcast(T(-1e4)), x);
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> bounded(simd::pack<T> x) {
  return at_least(min(simd::pack<T>::broadcast(T(1e4)), x));
}

template <class T>
DEEPSEEK_INLINE simd::pack<T> value(silu_kind, simd::pack<T> x) {
  return at_least(x) * sigmoids(x).plus;
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> slope(silu_kind, simd::pack<T> x) {
  const auto s = sigmoids(x);
  return s.plus * fma(bounded(x), s.minus, simd::pack<T>::broadcast(1));
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> value(gelu_kind, simd::pack<T> x) {
  return simd::gelu(x);
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> slope(gelu_kind, simd::pack<T> x) {
  return simd::gelu_derivative(x);
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> value(sigmoid_kind, simd::pack<T> x) {
  return sigmoids(x).plus;
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> slope(sigmoid_kind, simd::pack<T> x) {
  const auto s = sigmoids(x);
  return s.plus * s.minus;
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> value(relu_kind, simd::pack<T> x) {
  return max(simd::pack<T>::zero(), x);
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> slope(relu_kind, simd::pack<T> x) {
  using p = simd::pack<T>;
  const p up = select_less(p::zero(), x, p::broadcast(1), x);  // 1, or x <= 0, or NaN
  return max(p::zero(), up);
}

}  // namespace kernels

template <class Kind, class X, class Y>
requires Widenable<X, Y>
void activation_impl(const cpu& b, Kind kind, const X& x, const Y& y) {
  if (!unit_rows(x, y)) return activation_impl(static_cast<const reference&>(b), kind, x, y);
  for_each_span(
      b,
      [](index_t n, const auto* from, auto* to) {
        simd::along_row<lanes_of<Y>>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto value = kernels::value(Kind{}, simd::load_wide(from + i, rest));
              simd::store_narrow(to + i, value, rest);
            });
      },
      x, y);
}

template <class Kind, class X, class DY, class DX>
requires Widenable<X, DY, DX>
void activation_backward_impl(const cpu& b, Kind kind, const X& x, const DY& dy, const DX& dx) {
  if (!unit_rows(x, dy, dx)) {
    return activation_backward_impl(static_cast<const reference&>(b), kind, x, dy, dx);
  }
  for_each_span(
      b,
      [](index_t n, const auto* from, const auto* d, auto* to) {
        simd::along_row<lanes_of<DX>>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto slope = kernels::slope(Kind{}, simd::load_wide(from + i, rest));
              simd::store_narrow(to + i, slope * simd::load_wide(d + i, rest), rest);
            });
      },
      x, dy, dx);
}

// x cut to -limit .. limit, or from above only; NaN stays.
namespace kernels {
template <class T>
struct swiglu_limit {
  simd::pack<T> high;
  explicit swiglu_limit(double limit)
      : high(simd::pack<T>::broadcast(limit > 0 ? static_cast<T>(limit)
                                                : std::numeric_limits<T>::infinity())) {}
  simd::pack<T> gate(simd::pack<T> x) const { return min(high, x); }
  simd::pack<T> up(simd::pack<T> x) const { return max(-high, min(high, x)); }
};
}  // namespace kernels

template <class Gate, class Up, class Y>
requires Widenable<Gate, Up, Y>
void swiglu_impl(const cpu& b, const swiglu_inputs<Gate, Up>& in, const Y& y, double limit) {
  using T = lanes_of<Y>;
  if (!unit_rows(in.gate, in.up, y)) {
    return swiglu_impl(static_cast<const reference&>(b), in, y, limit);
  }
  const kernels::swiglu_limit<T> cut(limit);
  for_each_span(
      b,
      [cut](index_t n, const auto* g, const auto* u, auto* to) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto gate = cut.gate(simd::load_wide(g + i, rest));
              const auto up = cut.up(simd::load_wide(u + i, rest));
              simd::store_narrow(to + i, kernels::value(silu_kind{}, gate) * up, rest);
            });
      },
      in.gate, in.up, y);
}

template <class Gate, class Up, class DY, class DGate, class DUp>
requires Widenable<Gate, Up, DY, DGate, DUp>
void swiglu_backward_impl(const cpu& b, const swiglu_inputs<Gate, Up>& in, const DY& dy,
                          const swiglu_gradients<DGate, DUp>& out, double limit) {
  using T = lanes_of<DUp>;
  using simd::pack;
  if (!unit_rows(in.gate, in.up, dy, out.dgate, out.dup)) {
    return swiglu_backward_impl(static_cast<const reference&>(b), in, dy, out, limit);
  }
  const kernels::swiglu_limit<T> cut(limit);
  for_each_span(
      b,
      [cut](index_t n, const auto* g, const auto* u, const auto* d, auto* dg, auto* du) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto gate = simd::load_wide(g + i, rest), up = simd::load_wide(u + i, rest),
                         dyi = simd::load_wide(d + i, rest), none = pack<T>::zero();
              const auto s = kernels::sigmoids(gate);
              const auto slope =
                  s.plus * fma(kernels::bounded(gate), s.minus, pack<T>::broadcast(1));
              const auto dgate = dyi * cut.up(up) * slope;
              const auto dup = dyi * kernels::value(silu_kind{}, cut.gate(gate));
              simd::store_narrow(dg + i, select_less(cut.high, gate, none, dgate), rest);
              simd::store_narrow(du + i, select_less(cut.high, simd::abs(up), none, dup), rest);
            });
      },
      in.gate, in.up, dy, out.dgate, out.dup);
}

}  // namespace deepseek
