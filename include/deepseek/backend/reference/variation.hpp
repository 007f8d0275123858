// SPDX-License-Identifier: Apache-2.0
// The squared coefficient of variation of n numbers, CV^2 = n sum v^2 / (sum v)^2 - 1, and its
// derivatives: what balance losses make of sums over experts. Sums of zero: 0.
#pragma once

#include "deepseek/core/view.hpp"

namespace deepseek {

struct variation {
  double sum = 0, squares = 0, count = 0;

  explicit variation(const view<double, host, dyn>& v) : count(static_cast<double>(v.extent(0))) {
    for (index_t e = 0; e < v.extent(0); ++e) {
      sum += v(e);
      squares += v(e) * v(e);
    }
  }
  double value() const { return sum == 0 ? 0.0 : count * squares / (sum * sum) - 1; }
  // With respect to one of the numbers, v.
  double derivative(double v) const {
    return sum == 0 ? 0.0 : 2 * count / sum * (v / sum - squares / (sum * sum));
  }
};

}  // namespace deepseek
