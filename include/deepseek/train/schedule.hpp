// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules: a function of the optimizer step t = 0, 1, ...
// warmup_cosine: t < warmup: peak t / warmup; then floor + (peak - floor) (1 + cos(pi (t - warmup)
// / (total - warmup))) / 2; floor after total. constant_rate: the peak always. Errors: config
// (negative rates, warmup beyond total). Source: Loshchilov & Hutter 2017 (SGDR).
#pragma once

#include "deepseek/core/space.hpp"

#include <cmath>
#include <numbers>

namespace deepseek {

struct constant_rate {
  double peak = 1e-3;
  double operator()(index_t) const { return peak; }
};

struct warmup_cosine {
  double peak = 3e-5;
  double floor = 0;
  index_t warmup = 2000;
  index_t total = 100000;

  double operator()(index_t t) const {
    require(peak >= 0 && floor >= 0 && warmup >= 0 && total >= warmup && total > 0,
            error_code::config, "warmup_cosine: peak ", peak, ", floor ", floor, ", warmup ",
            warmup, ", total ", total, "; rates are >= 0 and 0 <= warmup <= total");
    if (t < warmup) return peak * static_cast<double>(t) / static_cast<double>(warmup);
    if (t >= total) return floor;
    const double part = static_cast<double>(t - warmup) / static_cast<double>(total - warmup);
    return floor + (peak - floor) * (1 + std::cos(std::numbers::pi * part)) / 2;
  }
};

}  // namespace deepseek
