// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu, sigmoid and swiglu on cpu, float or double throughout, contiguous rows; see
// ops/activation.hpp and ops/swiglu.hpp. Other types and strides take the reference.
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
requires Packable<X, Y>
void activation_impl(const cpu& b, Kind kind, const X& x, const Y& y) {
  using T = typename Y::value_type;
  using simd::pack;
  if (!unit_rows(x, y)) return activation_impl(static_cast<const reference&>(b), kind, x, y);
  for_each_span(
      b,
      [](index_t n, const T* from, T* to) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              kernels::value(Kind{}, pack<T>::load_up_to(from + i, rest)).store_up_to(to + i, rest);
            });
      },
      x, y);
}

template <class Kind, class X, class DY, class DX>
requires Packable<X, DY, DX>
void activation_backward_impl(const cpu& b, Kind kind, const X& x, const DY& dy, const DX& dx) {
  using T = typename DX::value_type;
  using simd::pack;
  if (!unit_rows(x, dy, dx)) {
    return activation_backward_impl(static_cast<const reference&>(b), kind, x, dy, dx);
  }
  for_each_span(
      b,
      [](index_t n, const T* from, const T* d, T* to) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto slope = kernels::slope(Kind{}, pack<T>::load_up_to(from + i, rest));
              (slope * pack<T>::load_up_to(d + i, rest)).store_up_to(to + i, rest);
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
requires Packable<Gate, Up, Y>
void swiglu_impl(const cpu& b, const swiglu_inputs<Gate, Up>& in, const Y& y, double limit) {
  using T = typename Y::value_type;
  using simd::pack;
  if (!unit_rows(in.gate, in.up, y)) {
    return swiglu_impl(static_cast<const reference&>(b), in, y, limit);
  }
  const kernels::swiglu_limit<T> cut(limit);
  for_each_span(
      b,
      [cut](index_t n, const T* g, const T* u, T* to) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto gate = cut.gate(pack<T>::load_up_to(g + i, rest));
              const auto up = cut.up(pack<T>::load_up_to(u + i, rest));
              (kernels::value(silu_kind{}, gate) * up).store_up_to(to + i, rest);
            });
      },
      in.gate, in.up, y);
}

template <class Gate, class Up, class DY, class DGate, class DUp>
requires Packable<Gate, Up, DY, DGate, DUp>
void swiglu_backward_impl(const cpu& b, const swiglu_inputs<Gate, Up>& in, const DY& dy,
                          const swiglu_gradients<DGate, DUp>& out, double limit) {
  using T = typename DUp::value_type;
  using simd::pack;
  if (!unit_rows(in.gate, in.up, dy, out.dgate, out.dup)) {
    return swiglu_backward_impl(static_cast<const reference&>(b), in, dy, out, limit);
  }
  const kernels::swiglu_limit<T> cut(limit);
  for_each_span(
      b,
      [cut](index_t n, const T* g, const T* u, const T* d, T* dg, T* du) {
        simd::along_row<T>(
            n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
              const auto gate = pack<T>::load_up_to(g + i, rest),
                         up = pack<T>::load_up_to(u + i, rest),
                         dyi = pack<T>::load_up_to(d + i, rest), none = pack<T>::zero();
              const auto s = kernels::sigmoids(gate);
              const auto slope =
                  s.plus * fma(kernels::bounded(gate), s.minus, pack<T>::broadcast(1));
              const auto dgate = dyi * cut.up(up) * slope;
              const auto dup = dyi * kernels::value(silu_kind{}, cut.gate(gate));
              select_less(cut.high, gate, none, dgate).store_up_to(dg + i, rest);
              select_less(cut.high, simd::abs(up), none, dup).store_up_to(du + i, rest);
            });
      },
      in.gate, in.up, dy, out.dgate, out.dup);
}

}  // namespace deepseek
