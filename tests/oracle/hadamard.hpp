// SPDX-License-Identifier: Apache-2.0
// The orthonormal Hadamard transform of each row of x[rows, dim], by the definition of the matrix:
// H[i, j] = (-1)^(number of ones that i and j share in binary), over sqrt(dim).
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

inline std::vector<double> hadamard(const std::vector<double>& x, std::size_t dim) {
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < x.size(); row += dim) {
    for (std::size_t i = 0; i < dim; ++i) {
      long double sum = 0;
      for (std::size_t j = 0; j < dim; ++j) {
        sum += std::popcount(i & j) % 2 == 0 ? x[row + j] : -x[row + j];
      }
      y[row + i] = static_cast<double>(sum / std::sqrt(static_cast<long double>(dim)));
    }
  }
  return y;
}

}  // namespace oracle
