// SPDX-License-Identifier: Apache-2.0
// Linear warm-up, then cosine decay: t < W: lr t/W; else low + (lr - low)/2 (1 + cos(pi
// (t-W)/(S-W))), low after S.
#pragma once

#include <cmath>
#include <cstdint>

namespace oracle {

struct warm_cosine {
  double lr = 3e-5, low = 0;
  std::int64_t warm = 2000, steps = 100000;
};

inline double learning_rate(std::int64_t t, const warm_cosine& s) {
  if (t < s.warm) return s.lr * static_cast<double>(t) / static_cast<double>(s.warm);
  if (t >= s.steps) return s.low;
  const double part = static_cast<double>(t - s.warm) / static_cast<double>(s.steps - s.warm);
  return s.low + (s.lr - s.low) / 2 * (1 + std::cos(std::acos(-1.0) * part));
}

}  // namespace oracle
