// SPDX-License-Identifier: Apache-2.0
// Hyper-connections of n streams X [tokens, n, dim], index by index.
//   sinkhorn: softmax of rows + eps, then columns and rows in turn over (sum + eps)
//   maps: pre = sigmoid(z) + eps, post = 2 sigmoid(z), mix = sinkhorn(z); z = mu a + b
//   read: sum_i pre_i X_i; write: Y_j = post_j y + sum_i mix_ij X_i
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

using reals = std::vector<double>;

inline reals sinkhorn(reals m, std::size_t n, int iterations, double eps) {
  for (std::size_t at = 0; at < m.size(); at += n * n) {
    const auto e = [&](std::size_t i, std::size_t j) -> double& { return m[at + i * n + j]; };
    for (std::size_t i = 0; i < n; ++i) {
      double total = 0;
      for (std::size_t j = 0; j < n; ++j) total += std::exp(e(i, j));
      for (std::size_t j = 0; j < n; ++j) e(i, j) = std::exp(e(i, j)) / total + eps;
    }
    for (int round = 0; round < iterations; ++round) {
      for (std::size_t i = 0; round > 0 && i < n; ++i) {
        double total = eps;
        for (std::size_t j = 0; j < n; ++j) total += e(i, j);
        for (std::size_t j = 0; j < n; ++j) e(i, j) /= total;
      }
      for (std::size_t j = 0; j < n; ++j) {
        double total = eps;
        for (std::size_t i = 0; i < n; ++i) total += e(i, j);
        for (std::size_t i = 0; i < n; ++i) e(i, j) /= total;
      }
    }
  }
  return m;
}

struct hyper_maps_result {
  reals pre, post, mix;
};

inline hyper_maps_result hyper_maps(const reals& mu, const reals& base, const reals& scale,
                                    std::size_t n, int iterations, double eps) {
  hyper_maps_result r;
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  const std::size_t width = base.size();
  for (std::size_t t = 0; t * width < mu.size(); ++t) {
    for (std::size_t j = 0; j < width; ++j) {
      const std::size_t part = j < n ? 0 : j < 2 * n ? 1 : 2;
      const double z = mu[t * width + j] * scale[part] + base[j];
      if (part == 0) r.pre.push_back(sigmoid(z) + eps);
      if (part == 1) r.post.push_back(2 * sigmoid(z));
      if (part == 2) r.mix.push_back(z);
    }
  }
  r.mix = sinkhorn(r.mix, n, iterations, eps);
  return r;
}

inline reals hyper_read(const reals& x, const reals& pre, std::size_t n, std::size_t dim) {
  reals y(x.size() / n);
  for (std::size_t at = 0; at < x.size(); ++at) {
    const std::size_t t = at / (n * dim), i = at / dim % n;
    y[t * dim + at % dim] += pre[t * n + i] * x[at];
  }
  return y;
}

inline reals hyper_write(const reals& x, const reals& y, const hyper_maps_result& maps,
                         std::size_t n, std::size_t dim) {
  reals out(x.size());
  for (std::size_t at = 0; at < x.size(); ++at) {
    const std::size_t t = at / (n * dim), j = at / dim % n, d = at % dim;
    out[at] = maps.post[t * n + j] * y[t * dim + d];
    for (std::size_t i = 0; i < n; ++i) {
      out[at] += maps.mix[(t * n + i) * n + j] * x[(t * n + i) * dim + d];
    }
  }
  return out;
}

}  // namespace oracle
