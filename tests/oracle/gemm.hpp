// SPDX-License-Identifier: Apache-2.0
// Matrix products, one double sum per element.
//   gemm: y[m, n] = sum_k A[m, k] B[k, n]; A is stored [m, k] or, transposed, [k, m]; B [k, n] or
//   [n, k]. linear: y[rows, out] = x[rows, in] w[out, in]^T + bias.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

enum class stored { plain, transposed };

struct gemm_shape {
  std::size_t m = 0, n = 0, k = 0;
  stored a = stored::plain, b = stored::plain;
};

inline std::vector<double> gemm(const std::vector<double>& a, const std::vector<double>& b,
                                const gemm_shape& s) {
  std::vector<double> y(s.m * s.n);
  for (std::size_t i = 0; i < s.m; ++i) {
    for (std::size_t j = 0; j < s.n; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < s.k; ++l) {
        const double left = s.a == stored::plain ? a.at(i * s.k + l) : a.at(l * s.m + i);
        const double right = s.b == stored::plain ? b.at(l * s.n + j) : b.at(j * s.k + l);
        sum += left * right;
      }
      y[i * s.n + j] = sum;
    }
  }
  return y;
}

inline std::vector<double> absolute(std::vector<double> x) {
  for (double& e : x) e = std::fabs(e);
  return x;
}

// |A| |B|: the scale of the rounding errors.
inline std::vector<double> gemm_magnitude(const std::vector<double>& a,
                                          const std::vector<double>& b, const gemm_shape& s) {
  return gemm(absolute(a), absolute(b), s);
}

struct linear_shape {
  std::size_t rows = 0, in = 0, out = 0;
};

// An empty bias is none.
inline std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w,
                                  const std::vector<double>& bias, const linear_shape& s) {
  std::vector<double> y(s.rows * s.out);
  for (std::size_t t = 0; t < s.rows; ++t) {
    for (std::size_t o = 0; o < s.out; ++o) {
      double sum = bias.empty() ? 0 : bias.at(o);
      for (std::size_t i = 0; i < s.in; ++i) sum += x.at(t * s.in + i) * w.at(o * s.in + i);
      y[t * s.out + o] = sum;
    }
  }
  return y;
}

// Rows offsets[e] ... offsets[e+1] of x meet w[e] of w[experts, out, in].
inline std::vector<double> grouped_linear(const std::vector<double>& x,
                                          const std::vector<double>& w,
                                          const std::vector<std::size_t>& offsets,
                                          const linear_shape& s) {
  std::vector<double> y(s.rows * s.out);
  for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
    for (std::size_t t = offsets[e]; t < offsets[e + 1]; ++t) {
      for (std::size_t o = 0; o < s.out; ++o) {
        double sum = 0;
        for (std::size_t i = 0; i < s.in; ++i) {
          sum += x.at(t * s.in + i) * w.at((e * s.out + o) * s.in + i);
        }
        y.at(t * s.out + o) = sum;
      }
    }
  }
  return y;
}

}  // namespace oracle
