// SPDX-License-Identifier: Apache-2.0
// The range of what a layer gets, over any number of calls; zero is always inside it.
//   min_max: low = min(0, all values), high = max(0, all values)
//   moving_average: low <- 0.99 low + 0.01 (low of the call), high alike; the first call counts
//   whole.
// Both are kept; a format chooses. Errors: nonfinite (a value is NaN or infinite).
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/space.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

enum class calibration_rule { min_max, moving_average };

struct value_limits {
  double low = 0, high = 0;
};

struct observed_range {
  value_limits extreme, average;
  index_t calls = 0;

  const value_limits& by(calibration_rule rule) const {
    return rule == calibration_rule::min_max ? extreme : average;
  }
};

template <class X>
value_limits limits_of(const X& x) {
  value_limits now;
  for (index_t n = 0; n < x.extent(0); ++n) {
    for (index_t i = 0; i < x.extent(1); ++i) {
      const double value = static_cast<double>(x(n, i));
      require(std::isfinite(value), error_code::nonfinite, "calibration: input[", n, ", ", i,
              "] is ", value, "; calibrate with data for which the model is finite");
      now = {std::min(now.low, value), std::max(now.high, value)};
    }
  }
  return now;
}

// x [rows, width]; a call without rows is not counted.
template <class X>
void observe_range(const X& x, observed_range& seen) {
  if (x.extent(0) == 0) return;
  constexpr double kept = 0.99;
  const value_limits now = limits_of(x);
  const double old = seen.calls == 0 ? 0 : kept;
  seen.extreme = {std::min(seen.extreme.low, now.low), std::max(seen.extreme.high, now.high)};
  seen.average = {old * seen.average.low + (1 - old) * now.low,
                  old * seen.average.high + (1 - old) * now.high};
  ++seen.calls;
}

}  // namespace deepseek
