// SPDX-License-Identifier: Apache-2.0
// The row bodies of layer_norm (formulas in ops/layer_norm.hpp), shared by reference and cuda.
// A row is a rank-1 view; Sum is the type of the arithmetic.
#pragma once

#include "deepseek/backend/rows/large_row.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"

#include <cmath>

namespace deepseek {

template <class Sum>
struct row_moments {
  Sum mean, scale;  // scale = 1 / sqrt(variance + eps)
};

// In two passes: the one-pass formula loses everything when |mean| is far above the deviation.
// sum_of(f) is the sum of f(x_i), the same for every worker.
template <class A, class SumOf>
DEEPSEEK_HOST_DEVICE row_moments<A> row_moments_by(const SumOf& sum_of, A count, A eps) {
  const A mean = sum_of([](A v) { return v; }) / count;
  const A squares = sum_of([&](A v) { return (v - mean) * (v - mean); });
  if (sum_holds(squares)) return {mean, A(1) / std::sqrt(squares / count + eps)};
  constexpr A unit = large_row_scale<A>;
  const A level = sum_of([](A v) { return v * unit; }) / count;
  const A scaled = sum_of([&](A v) { return (v * unit - level) * (v * unit - level); });
  if (scaled == 0) return {level / unit, A(1) / std::sqrt(eps)};  // all alike
  return {level / unit, unit / std::sqrt(scaled / count + eps * unit * unit)};
}
template <class Sum, class Team, class X>
DEEPSEEK_HOST_DEVICE row_moments<Sum> layer_norm_moments(const Team& team, const X& x, double eps) {
  const index_t n = x.extent(0);
  const auto sum_of = [&](const auto& f) {
    return row_sum(team, n, [&](index_t i) { return f(static_cast<Sum>(x(i))); });
  };
  return row_moments_by(sum_of, static_cast<Sum>(n), static_cast<Sum>(eps));
}

template <class Team, class X, class Affine, class Y>
DEEPSEEK_HOST_DEVICE void layer_norm_row(const Team& team, const X& x, const Affine& affine,
                                         const Y& y, double eps) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  const row_moments<sum> m = layer_norm_moments<sum>(team, x, eps);
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    const sum normed = (static_cast<sum>(x(i)) - m.mean) * m.scale;
    y(i) =
        static_cast<out>(static_cast<sum>(affine.w(i)) * normed + static_cast<sum>(affine.bias(i)));
  }
}

// dx of one row; m are its layer_norm_moments.
template <class Team, class Sum, class In, class DY, class DX>
DEEPSEEK_HOST_DEVICE void layer_norm_backward_row(const Team& team, const In& in, const DY& dy,
                                                  const DX& dx, row_moments<Sum> m) {
  const index_t n = in.x.extent(0);
  const Sum count = static_cast<Sum>(n);
  const auto weighted = [&](index_t i) {
    return static_cast<Sum>(dy(i)) * static_cast<Sum>(in.w(i));
  };
  const auto normed = [&](index_t i) { return (static_cast<Sum>(in.x(i)) - m.mean) * m.scale; };
  const Sum mean = row_sum(team, n, weighted) / count;
  const Sum product = row_sum(team, n, [&](index_t i) { return weighted(i) * normed(i); }) / count;
  for (index_t i = team.rank(); i < n; i += team.size()) {
    const Sum value = m.scale * (weighted(i) - mean - normed(i) * product);
    dx(i) = static_cast<typename DX::value_type>(value);
  }
}

}  // namespace deepseek
