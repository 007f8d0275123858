// SPDX-License-Identifier: Apache-2.0
// Softmax of each row of x[rows, n] with its log-sum-exp, and the merge of two partial results.
// A row of -inf only (or of no elements) gives zeros and -inf. p_i = e^(x_i - max) / sum.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace oracle {

struct softmax_result {
  std::vector<double> p, lse;
};

inline softmax_result softmax(const std::vector<double>& x, std::size_t rows, std::size_t n) {
  softmax_result out{std::vector<double>(rows * n), std::vector<double>(rows)};
  for (std::size_t row = 0; row < rows; ++row) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t i = 0; i < n; ++i) top = std::fmax(top, x.at(row * n + i));
    for (std::size_t i = 0; i < n; ++i) {
      const double e = x[row * n + i];
      out.p[row * n + i] = e == -std::numeric_limits<double>::infinity() ? 0 : std::exp(e - top);
      sum += out.p[row * n + i];
    }
    out.lse[row] = sum == 0 ? -std::numeric_limits<double>::infinity() : top + std::log(sum);
    for (std::size_t i = 0; i < n && sum != 0; ++i) out.p[row * n + i] /= sum;
  }
  return out;
}

// dx = p (g - sum g p), row by row.
inline std::vector<double> softmax_backward(const std::vector<double>& p,
                                            const std::vector<double>& g, std::size_t n) {
  std::vector<double> dx(p.size());
  for (std::size_t row = 0; row < p.size(); row += n) {
    double inner = 0;
    for (std::size_t i = 0; i < n; ++i) inner += g[row + i] * p[row + i];
    for (std::size_t i = 0; i < n; ++i) dx[row + i] = p[row + i] * (g[row + i] - inner);
  }
  return dx;
}

struct partial {
  double out = 0, lse = -std::numeric_limits<double>::infinity();
};

inline partial merge(const partial& a, const partial& b) {
  const double top = std::fmax(a.lse, b.lse);
  if (top == -std::numeric_limits<double>::infinity()) return {};
  const double wa = std::exp(a.lse - top), wb = std::exp(b.lse - top);
  return {(wa * a.out + wb * b.out) / (wa + wb), top + std::log(wa + wb)};
}

}  // namespace oracle
