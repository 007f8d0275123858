// SPDX-License-Identifier: Apache-2.0
// The squared coefficient of variation of n numbers, CV^2 = n sum v^2 / (sum v)^2 - 1, and its
// derivatives: what balance losses make of sums over experts. Sums of zero: 0.
#pragma once

#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

struct variation {
  double sum = 0, squares = 0, count = 0;

  variation() = default;
  template <class V>
  DEEPSEEK_HOST_DEVICE explicit variation(const V& v) : variation(serial_team{}, v) {}
  // By a team: every worker gets it.
  template <class Team, class V>
  DEEPSEEK_HOST_DEVICE variation(const Team& team, const V& v)
      : count(static_cast<double>(v.extent(0))) {
    for (index_t e = team.rank(); e < v.extent(0); e += team.size()) {
      sum += v(e);
      squares += v(e) * v(e);
    }
    sum = team.sum(sum);
    squares = team.sum(squares);
  }

  DEEPSEEK_HOST_DEVICE double value() const {
    return sum == 0 ? 0.0 : count * squares / (sum * sum) - 1;
  }
  // With respect to one of the numbers, v.
  DEEPSEEK_HOST_DEVICE double derivative(double v) const {
    return sum == 0 ? 0.0 : 2 * count / sum * (v / sum - squares / (sum * sum));
  }
};

}  // namespace deepseek
