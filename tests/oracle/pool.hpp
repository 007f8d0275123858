// SPDX-License-Identifier: Apache-2.0
// One row of each sequence: its first, its last or the mean of all; and the gradient.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

enum class pooled { first, mean, last };

// The weight of row i of a sequence of n rows.
inline double pool_weight(pooled how, std::size_t i, std::size_t n) {
  if (how == pooled::mean) return 1 / static_cast<double>(n);
  return i == (how == pooled::first ? 0 : n - 1) ? 1 : 0;
}

template <class F>
void each_pooled_row(const std::vector<std::int32_t>& offsets, const F& f) {
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const auto n = static_cast<std::size_t>(offsets[s + 1] - offsets[s]);
    for (std::size_t i = 0; i < n; ++i) f(s, static_cast<std::size_t>(offsets[s]) + i, i, n);
  }
}

// Sums in long double: those of equal numbers round all one way.
inline std::vector<double> pool(const std::vector<double>& x,
                                const std::vector<std::int32_t>& offsets, pooled how,
                                std::size_t dim) {
  std::vector<long double> sums((offsets.size() - 1) * dim);
  each_pooled_row(offsets, [&](std::size_t s, std::size_t row, std::size_t i, std::size_t n) {
    const bool counts = pool_weight(how, i, n) != 0;
    const long double share = how == pooled::mean ? static_cast<long double>(n) : 1.0L;
    for (std::size_t d = 0; d < dim && counts; ++d)
      sums[s * dim + d] += x.at(row * dim + d) / share;
  });
  std::vector<double> y;
  for (const long double sum : sums) y.push_back(static_cast<double>(sum));
  return y;
}

inline std::vector<double> pool_backward(const std::vector<double>& dy,
                                         const std::vector<std::int32_t>& offsets, pooled how,
                                         std::size_t dim) {
  std::vector<double> dx(static_cast<std::size_t>(offsets.back()) * dim);
  each_pooled_row(offsets, [&](std::size_t s, std::size_t row, std::size_t i, std::size_t n) {
    const double w = pool_weight(how, i, n);
    for (std::size_t d = 0; d < dim && w != 0; ++d) dx[row * dim + d] = w * dy.at(s * dim + d);
  });
  return dx;
}

}  // namespace oracle
