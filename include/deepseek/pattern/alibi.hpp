// SPDX-License-Identifier: Apache-2.0
// alibi<H>: attention with linear biases, a score modifier: s' = s - m_h |q - k|, ds'/ds = 1. The
// slopes of H heads: H a power of two: m_h = 2^(-8 (h + 1) / H), h = 0 .. H - 1; else those of the
// power of two P below H, then every second one of 2 P: 2^(-4 (2 j + 1) / P), j = 0, 1, ...
// alibi<dyn>(slopes[heads]) takes double slopes of this run; it borrows them.
// Use it without rotary embedding (rotary::none). Errors: shape_mismatch (another number of heads
// attends). Source: Press, Smith and Lewis 2022, section 3, and its
// published code for H that is no power of two.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/score.hpp"

namespace deepseek {

// 2^-x, x >= 0: halves, and the series of e^(-f ln 2) for the fraction f.
constexpr double power_of_half(double x) {
  const auto whole = static_cast<index_t>(x);
  const double z = -(x - static_cast<double>(whole)) * 0.693147180559945309417;
  double sum = 1, term = 1;
  for (int n = 1; n <= 20; ++n) {
    term *= z / n;
    sum += term;
  }
  for (index_t n = 0; n < whole; ++n) sum /= 2;
  return sum;
}

constexpr double alibi_slope(index_t heads, index_t h) {
  index_t power = 1;
  while (2 * power <= heads) power *= 2;
  const double p = static_cast<double>(power);
  if (h < power) return power_of_half(8 * static_cast<double>(h + 1) / p);
  return power_of_half(4 * static_cast<double>(2 * (h - power) + 1) / p);
}

// s - slope |q - k|.
struct linear_bias {
  static constexpr bool checked_by_sizes = true;
  double slope = 0;

  template <class T>
  DEEPSEEK_HOST_DEVICE constexpr modified_score<T> change(T s, index_t q, index_t k) const {
    return {s - static_cast<T>(slope) * static_cast<T>(q > k ? q - k : k - q), T(1)};
  }
};

// last_head: of the attention that asks.
inline void require_slopes(index_t slopes, index_t last_head) {
  require(slopes == last_head + 1, error_code::shape_mismatch, "alibi: slopes of ", slopes,
          " heads for an attention of ", last_head + 1, "; write alibi<", last_head + 1, ">");
}

template <index_t H>
struct alibi : linear_bias {
  static_assert(H >= 1, "deepseek::alibi: no heads; write the number of query heads, alibi<8>");

  DEEPSEEK_HOST_DEVICE constexpr alibi bind(const pattern_scope& scope) const {
    constexpr table known = slopes;  // device code cannot read the member
    alibi bound;
    bound.slope = scope.head < H ? known.of[scope.head] : 0;
    return bound;
  }
  void check(const pattern_scope& scope) const { require_slopes(H, scope.head); }

 private:
  struct table {
    double of[H] = {};
  };
  static constexpr table slopes = [] {
    table t;
    for (index_t h = 0; h < H; ++h) t.of[h] = alibi_slope(H, h);
    return t;
  }();
};

template <>
struct alibi<dyn> : linear_bias {
  const double* slopes = nullptr;
  index_t heads = 0, stride = 1;

  alibi() = default;
  template <class T, class S, index_t N>
  explicit alibi(const view<T, S, N>& of_heads)
      : slopes(of_heads.data()), heads(of_heads.extent(0)), stride(of_heads.stride(0)) {}

  DEEPSEEK_HOST_DEVICE alibi bind(const pattern_scope& scope) const {
    alibi bound = *this;
    bound.slope = scope.head < heads ? slopes[scope.head * stride] : 0;
    return bound;
  }
  void check(const pattern_scope& scope) const { require_slopes(heads, scope.head); }
};

}  // namespace deepseek
