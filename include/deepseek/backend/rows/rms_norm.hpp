// SPDX-License-Identifier: Apache-2.0
// The row bodies of rms_norm (formulas in ops/rms_norm.hpp), shared by reference and cuda.
// A row is a rank-1 view; Sum is the type of the arithmetic.
#pragma once

#include "deepseek/backend/rows/large_row.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"

#include <cmath>

namespace deepseek {

// 1 / sqrt(mean(x^2) + eps); sum_of(f) is the sum of f(x_i), the same for every worker.
template <class A, class SumOf>
DEEPSEEK_HOST_DEVICE A inverse_rms_by(const SumOf& sum_of, A count, A eps) {
  const A squares = sum_of([](A v) { return v * v; });
  if (sum_holds(squares)) return A(1) / std::sqrt(squares / count + eps);
  constexpr A unit = large_row_scale<A>;
  const A scaled = sum_of([](A v) { return (v * unit) * (v * unit); });
  return unit / std::sqrt(scaled / count + eps * unit * unit);
}
template <class Sum, class Team, class X>
DEEPSEEK_HOST_DEVICE Sum rms_norm_scale(const Team& team, const X& x, double eps) {
  const index_t n = x.extent(0);
  const auto sum_of = [&](const auto& f) {
    return row_sum(team, n, [&](index_t i) { return f(static_cast<Sum>(x(i))); });
  };
  return inverse_rms_by(sum_of, static_cast<Sum>(n), static_cast<Sum>(eps));
}

template <class Team, class X, class W, class Y>
DEEPSEEK_HOST_DEVICE void rms_norm_row(const Team& team, const X& x, const W& w, const Y& y,
                                       double eps) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  const sum r = rms_norm_scale<sum>(team, x, eps);
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    y(i) = static_cast<out>(static_cast<sum>(w(i)) * (static_cast<sum>(x(i)) * r));
  }
}

// dx of one row; r is its rms_norm_scale.
template <class Team, class Sum, class In, class DY, class DX>
DEEPSEEK_HOST_DEVICE void rms_norm_backward_row(const Team& team, const In& in, const DY& dy,
                                                const DX& dx, Sum r) {
  const index_t n = in.x.extent(0);
  const auto weighted = [&](index_t i) {
    return static_cast<Sum>(dy(i)) * static_cast<Sum>(in.w(i));
  };
  const auto normed = [&](index_t i) { return static_cast<Sum>(in.x(i)) * r; };
  const Sum mean =
      row_sum(team, n, [&](index_t i) { return weighted(i) * normed(i); }) / static_cast<Sum>(n);
  for (index_t i = team.rank(); i < n; i += team.size()) {
    dx(i) = static_cast<typename DX::value_type>(r * (weighted(i) - normed(i) * mean));
  }
}

}  // namespace deepseek
