// SPDX-License-Identifier: Apache-2.0
// soft_cap<C>: scores stay between -c and c, a score modifier: s' = c tanh(s / c), ds'/ds = 1 -
// tanh(s / c)^2 = 4 e / (1 + e)^2 with e = e^(-2 |s / c|), which keeps its digits near 0. C is a
// whole number or a ratio, soft_cap<5, 2>; soft_cap<>(2.5) is one of this run. cap = infinity
// leaves scores as they are. Errors: invalid_argument (cap not > 0). Source: Gemma Team 2024 (Gemma
// 2), section 2.
#pragma once

#include "deepseek/pattern/score.hpp"

#include <cmath>

namespace deepseek {

// Its kind, whatever the cap.
struct capped_scores {
  static constexpr bool checked_by_sizes = true;
  double cap = 0;

  void check(const pattern_scope&) const {
    require(cap > 0, error_code::invalid_argument, "soft_cap: cap is ", cap,
            "; pass a number > 0, for instance soft_cap<50>");
  }
  template <class T>
  DEEPSEEK_HOST_DEVICE modified_score<T> change(T s, index_t, index_t) const {
    if (std::isinf(cap)) return {s, T(1)};
    const T x = s / static_cast<T>(cap), e = std::exp(T(-2) * std::abs(x));
    return {static_cast<T>(cap) * std::tanh(x), T(4) * e / ((T(1) + e) * (T(1) + e))};
  }
};

template <index_t C = 0, index_t Divisor = 1>
struct soft_cap : capped_scores {
  static_assert(C >= 0 && Divisor >= 1,
                "deepseek::soft_cap: the cap is negative; write soft_cap<50> or soft_cap<5, 2>");

  constexpr soft_cap() : soft_cap(static_cast<double>(C) / static_cast<double>(Divisor)) {}
  constexpr explicit soft_cap(double value) : capped_scores{value} {}
};

}  // namespace deepseek
