// SPDX-License-Identifier: Apache-2.0
// Normalization of each row of x[rows, dim], and its gradients.
//   rms_norm: y = w x r, r = (mean x^2 + eps)^-1/2;  dx = r (g w - xh mean(g w xh)), xh = x r;  dw
//   = sum g xh layer_norm: y = w (x - mu) r + b, r = (var + eps)^-1/2 with the biased variance
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

struct norm_gradient {
  std::vector<double> dx, dw, db;
};

inline std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& w,
                                    std::size_t dim, double eps) {
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < x.size(); row += dim) {
    double squares = 0;
    for (std::size_t i = 0; i < dim; ++i) squares += x[row + i] * x[row + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + eps);
    for (std::size_t i = 0; i < dim; ++i) y[row + i] = w.at(i) * (x[row + i] * scale);
  }
  return y;
}

inline norm_gradient rms_norm_backward(const std::vector<double>& x, const std::vector<double>& w,
                                       const std::vector<double>& g, double eps) {
  const std::size_t dim = w.size();
  norm_gradient out{std::vector<double>(x.size()), std::vector<double>(dim), {}};
  for (std::size_t row = 0; row < x.size(); row += dim) {
    double squares = 0, mixed = 0;
    for (std::size_t i = 0; i < dim; ++i) squares += x[row + i] * x[row + i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(dim) + eps);
    for (std::size_t i = 0; i < dim; ++i) mixed += g[row + i] * w[i] * x[row + i] * r;
    for (std::size_t i = 0; i < dim; ++i) {
      const double hat = x[row + i] * r;
      out.dx[row + i] = r * (g[row + i] * w[i] - hat * mixed / static_cast<double>(dim));
      out.dw[i] += g[row + i] * hat;
    }
  }
  return out;
}

inline std::vector<double> layer_norm(const std::vector<double>& x, const std::vector<double>& w,
                                      const std::vector<double>& b, double eps) {
  const std::size_t dim = w.size();
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < x.size(); row += dim) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < dim; ++i) mean += x[row + i] / static_cast<double>(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      variance += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(dim);
    }
    for (std::size_t i = 0; i < dim; ++i) {
      y[row + i] = w[i] * (x[row + i] - mean) / std::sqrt(variance + eps) + b.at(i);
    }
  }
  return y;
}

inline norm_gradient layer_norm_backward(const std::vector<double>& x, const std::vector<double>& w,
                                         const std::vector<double>& g, double eps) {
  const std::size_t dim = w.size();
  const double n = static_cast<double>(dim);
  norm_gradient out{std::vector<double>(x.size()), std::vector<double>(dim),
                    std::vector<double>(dim)};
  for (std::size_t row = 0; row < x.size(); row += dim) {
    double mean = 0, variance = 0, plain = 0, mixed = 0;
    for (std::size_t i = 0; i < dim; ++i) mean += x[row + i] / n;
    for (std::size_t i = 0; i < dim; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean) / n;
    const double r = 1 / std::sqrt(variance + eps);
    for (std::size_t i = 0; i < dim; ++i) {
      plain += g[row + i] * w[i] / n;
      mixed += g[row + i] * w[i] * (x[row + i] - mean) * r / n;
    }
    for (std::size_t i = 0; i < dim; ++i) {
      const double hat = (x[row + i] - mean) * r;
      out.dx[row + i] = r * (g[row + i] * w[i] - plain - hat * mixed);
      out.dw[i] += g[row + i] * hat;
      out.db[i] += g[row + i];
    }
  }
  return out;
}

}  // namespace oracle
