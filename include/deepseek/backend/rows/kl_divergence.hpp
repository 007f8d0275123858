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

// One element's part of the divergence, and of the gradient, `given` being the sum of p.
template <class A>
struct kl_part {
  A shift, below;
  explicit DEEPSEEK_HOST_DEVICE kl_part(const softmax_denominator<A>& of)
      : shift(of.largest), below(std::log(of.total)) {}
  DEEPSEEK_HOST_DEVICE A operator()(A p, A x) const {
    const A log_share = (x - shift) - below;
    return p == A(0) ? A(0) : p * (std::log(p) - log_share);
  }
};
template <class A>
struct kl_gradient_part {
  A shift, share, by;
  DEEPSEEK_HOST_DEVICE kl_gradient_part(const softmax_denominator<A>& of, A given, double factor)
      : shift(of.largest), by(static_cast<A>(factor)) {
    const A quotient = given / of.total;  // outside the choice: a GPU's workers take one way
    share = given == A(0) ? A(0) : quotient;
  }
  DEEPSEEK_HOST_DEVICE A operator()(A p, A x) const {
    const A got = share == A(0) ? A(0) : std::exp(x - shift) * share;
    return by * (got - p);
  }
};

template <class Team, class P, class X>
DEEPSEEK_HOST_DEVICE auto kl_divergence_row(const Team& team, const P& p, const X& x) {
  using A = accumulate_t<typename X::value_type>;
  const kl_part<A> part(denominator_of<A>(team, x));
  return row_sum(team, x.extent(0),
                 [&](index_t i) { return part(static_cast<A>(p(i)), static_cast<A>(x(i))); });
}

template <class Team, class P, class X, class DX>
DEEPSEEK_HOST_DEVICE void kl_divergence_gradient_row(const Team& team, const P& p, const X& x,
                                                     const DX& dx, double factor) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  const index_t n = x.extent(0);
  const A given = row_sum(team, n, [&](index_t i) { return static_cast<A>(p(i)); });
  const kl_gradient_part<A> part(denominator_of<A>(team, x), given, factor);
  for (index_t i = team.rank(); i < n; i += team.size()) {
    dx(i) = static_cast<T>(part(static_cast<A>(p(i)), static_cast<A>(x(i))));
  }
}

}  // namespace deepseek
