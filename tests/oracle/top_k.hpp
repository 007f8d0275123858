// SPDX-License-Identifier: Apache-2.0
// The k largest of each row of x[rows, n]: larger first, equal values by lower index, NaN after
// everything. With k > n the surplus places hold id -1 and value -inf.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace oracle {

struct top_k_result {
  std::vector<std::int64_t> ids;  // [rows, k]
  std::vector<double> values;     // [rows, k]
};

inline bool comes_before(double a, double b) {
  return std::isnan(b) ? !std::isnan(a) : a > b;
}

inline top_k_result top_k(const std::vector<double>& x, std::size_t rows, std::size_t n,
                          std::size_t k) {
  top_k_result out;
  for (std::size_t row = 0; row < rows; ++row) {
    std::vector<bool> taken(n);
    for (std::size_t place = 0; place < k; ++place) {
      std::size_t best = n;
      for (std::size_t i = 0; i < n; ++i) {
        if (taken[i]) continue;
        if (best == n || comes_before(x.at(row * n + i), x[row * n + best])) best = i;
      }
      if (best < n) taken[best] = true;
      out.ids.push_back(best < n ? static_cast<std::int64_t>(best) : -1);
      out.values.push_back(best < n ? x[row * n + best] : -std::numeric_limits<double>::infinity());
    }
  }
  return out;
}

}  // namespace oracle
