// SPDX-License-Identifier: Apache-2.0
// The row bodies of softmax (formulas in ops/softmax.hpp), shared by reference and cuda.
// The exponential is computed twice rather than kept in y, whose type may be narrow.
#pragma once

#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"

#include <cmath>

namespace deepseek {

template <class Team, class X, class Y>
DEEPSEEK_HOST_DEVICE void softmax_row(const Team& team, const X& x, const Y& y) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  constexpr sum lowest = -math::infinity<sum>;
  const index_t n = x.extent(0);
  sum largest = lowest;  // NaN never compares larger; the sum below carries it
  for (index_t i = team.rank(); i < n; i += team.size()) {
    const sum v = static_cast<sum>(x(i));
    if (v > largest) largest = v;
  }
  largest = team.max(largest);
  if (largest == lowest) largest = sum(0);  // -inf - -inf would be NaN
  const sum total =
      row_sum(team, n, [&](index_t i) { return std::exp(static_cast<sum>(x(i)) - largest); });
  const sum scale = total == sum(0) ? sum(0) : sum(1) / total;
  for (index_t i = team.rank(); i < n; i += team.size()) {
    y(i) = static_cast<out>(std::exp(static_cast<sum>(x(i)) - largest) * scale);
  }
}

template <class Team, class Y, class DY, class DX>
DEEPSEEK_HOST_DEVICE void softmax_backward_row(const Team& team, const Y& y, const DY& dy,
                                               const DX& dx) {
  using out = typename DX::value_type;
  using sum = accumulate_t<out>;
  const index_t n = y.extent(0);
  const sum dot =
      row_sum(team, n, [&](index_t i) { return static_cast<sum>(dy(i)) * static_cast<sum>(y(i)); });
  for (index_t i = team.rank(); i < n; i += team.size()) {
    dx(i) = static_cast<out>(static_cast<sum>(y(i)) * (static_cast<sum>(dy(i)) - dot));
  }
}

}  // namespace deepseek
