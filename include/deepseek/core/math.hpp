// SPDX-License-Identifier: Apache-2.0
// Scalar functions and their derivatives, for float and double, on host and device.
//
// sigmoid(x) = 1/(1+e^-x); silu(x) = x sigmoid(x); gelu(x) = x Phi(x), exact (erf form);
// softplus(x) = ln(1+e^x). Evaluated so that nothing overflows and nothing cancels; a NaN stays
// NaN. At -infinity silu and gelu are NaN (infinity times zero), as in the formula. Source: Elfwing
// et al. 2018 (SiLU); Hendrycks and Gimpel 2016, section 2 (GELU).
#pragma once

#include <deepseek/config.hpp>

#include <cmath>
#include <concepts>
#include <limits>

namespace deepseek::math {

// As variables: device code may read one, but not call std::numeric_limits.
template <std::floating_point T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();
template <std::floating_point T>
inline constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T sigmoid(T x) {
  if (x >= 0) return T(1) / (T(1) + std::exp(-x));
  const T e = std::exp(x);
  return e / (T(1) + e);
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T sigmoid_derivative(T x) {
  const T e = std::exp(-std::fabs(x));  // even in x
  return e / ((T(1) + e) * (T(1) + e));
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T silu(T x) {
  return x * sigmoid(x);
}

// s (1 + x (1 - s)), with 1 - s = sigmoid(-x).
template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T silu_derivative(T x) {
  return sigmoid(x) * (T(1) + x * sigmoid(-x));
}

// Phi(x), the standard normal distribution function; erfc keeps the left tail exact.
template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T normal_cdf(T x) {
  constexpr T root_half = T(0.70710678118654752440084436210485);
  return T(0.5) * std::erfc(-x * root_half);
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T normal_density(T x) {
  constexpr T factor = T(0.39894228040143267793994605993438);  // 1 / sqrt(2 pi)
  return factor * std::exp(T(-0.5) * x * x);
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T gelu(T x) {
  return x * normal_cdf(x);
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T gelu_derivative(T x) {
  return normal_cdf(x) + x * normal_density(x);
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T softplus(T x) {
  const T tail = std::log1p(std::exp(-std::fabs(x)));
  return x > 0 ? x + tail : tail;
}

template <std::floating_point T>
DEEPSEEK_HOST_DEVICE inline T softplus_derivative(T x) {
  return sigmoid(x);
}

}  // namespace deepseek::math
