// SPDX-License-Identifier: Apache-2.0
// The row bodies of kl_divergence (formulas in ops/kl_divergence.hpp), shared by reference, cpu and
// cuda.
#pragma once

#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"

#include <cmath>

namespace deepseek {

// The largest of a row (0 where all are -inf) and the sum of e^(x - largest).
template <class A>
struct softmax_denominator {
  A largest, total;
};
template <class A, class Team, class X>
DEEPSEEK_HOST_DEVICE softmax_denominator<A> denominator_of(const Team& team, const X& x) {
  constexpr A lowest = -math::infinity<A>;
  const index_t n = x.extent(0);
  A largest = lowest;
  for (index_t i = team.rank(); i < n; i += team.size()) {
    const A v = static_cast<A>(x(i));
    if (v > largest) largest = v;
  }
  largest = team.max(largest);
  if (largest == lowest) largest = A(0);
  return {largest,
          row_sum(team, n, [&](index_t i) { return std::exp(static_cast<A>(x(i)) - largest); })};
}

template <class Team, class P, class X>
DEEPSEEK_HOST_DEVICE auto kl_divergence_row(const Team& team, const P& p, const X& x) {
  using A = accumulate_t<typename X::value_type>;
  const auto [largest, total] = denominator_of<A>(team, x);
  return row_sum(team, x.extent(0), [&, shift = largest, below = std::log(total)](index_t i) {
    const A weight = static_cast<A>(p(i));
    const A log_share = (static_cast<A>(x(i)) - shift) - below;
    return weight == A(0) ? A(0) : weight * (std::log(weight) - log_share);
  });
}

template <class Team, class P, class X, class DX>
DEEPSEEK_HOST_DEVICE void kl_divergence_gradient_row(const Team& team, const P& p, const X& x,
                                                     const DX& dx, double factor) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  const index_t n = x.extent(0);
  const A given = row_sum(team, n, [&](index_t i) { return static_cast<A>(p(i)); });
  const auto [largest, total] = denominator_of<A>(team, x);
  const A quotient = given / total;  // outside the choice: a GPU's workers take one way
  const A share = given == A(0) ? A(0) : quotient, by = static_cast<A>(factor);
  const A shift = largest;
  for (index_t i = team.rank(); i < n; i += team.size()) {
    const A wanted = static_cast<A>(p(i));
    const A got = share == A(0) ? A(0) : std::exp(static_cast<A>(x(i)) - shift) * share;
    dx(i) = static_cast<T>(by * (got - wanted));
  }
}

}  // namespace deepseek
