// SPDX-License-Identifier: Apache-2.0
// Activations and derivatives, evaluated in long double and rounded to double.
//   sigmoid(x) = 1/(1+e^-x); silu(x) = x sigmoid(x); gelu(x) = x Phi(x);
//   relu(x) = max(x, 0) with slope 0 at 0; swiglu(g, u) = silu(g) u
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

namespace detail {
inline long double sigmoid(long double x) {
  return 1 / (1 + std::exp(-x));
}
inline long double normal_cdf(long double x) {
  return std::erfc(-x / std::sqrt(2.0L)) / 2;
}
inline long double normal_density(long double x) {
  return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0L));
}
}  // namespace detail

inline double silu(double x) {
  return static_cast<double>(x * detail::sigmoid(x));
}
inline double silu_slope(double x) {
  const long double s = detail::sigmoid(x);
  return static_cast<double>(s + x * s * detail::sigmoid(-x));
}
inline double gelu(double x) {
  return static_cast<double>(x * detail::normal_cdf(x));
}
inline double gelu_slope(double x) {
  return static_cast<double>(detail::normal_cdf(x) + x * detail::normal_density(x));
}
inline double sigmoid(double x) {
  return static_cast<double>(detail::sigmoid(x));
}
inline double sigmoid_slope(double x) {
  return static_cast<double>(detail::sigmoid(x) * detail::sigmoid(-static_cast<long double>(x)));
}
inline double relu(double x) {
  return x > 0 ? x : (x <= 0 ? 0.0 : x);
}  // NaN stays
inline double relu_slope(double x) {
  return x > 0 ? 1 : 0;
}

inline std::vector<double> each(double (*f)(double), std::vector<double> x) {
  for (double& e : x) e = f(e);
  return x;
}

inline std::vector<double> swiglu(const std::vector<double>& gate, const std::vector<double>& up) {
  std::vector<double> y(gate.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = silu(gate[i]) * up.at(i);
  return y;
}

struct swiglu_gradient {
  std::vector<double> dgate, dup;
};

inline swiglu_gradient swiglu_backward(const std::vector<double>& gate,
                                       const std::vector<double>& up,
                                       const std::vector<double>& g) {
  swiglu_gradient out{gate, up};
  for (std::size_t i = 0; i < g.size(); ++i) {
    out.dgate[i] = g[i] * up[i] * silu_slope(gate[i]);
    out.dup[i] = g[i] * silu(gate[i]);
  }
  return out;
}

}  // namespace oracle
