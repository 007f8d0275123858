// SPDX-License-Identifier: Apache-2.0
// Scalar functions against long double formulas, derivatives against differences, and the ends of
// the range.
#include <deepseek/core/math.hpp>

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

namespace math = deepseek::math;

namespace {

using wide = long double;

// Error in units of the last place of T at the true value.
template <class T>
double ulps(T got, wide truth) {
  const T near = static_cast<T>(truth);
  const T step =
      std::nextafter(std::fabs(near), std::numeric_limits<T>::infinity()) - std::fabs(near);
  return static_cast<double>(std::fabs(static_cast<wide>(got) - truth) / static_cast<wide>(step));
}

wide wide_cdf(wide x) {
  return 0.5L * std::erfc(-x / std::sqrt(2.0L));
}
wide wide_density(wide x) {
  return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0L));
}

template <class T, class Ours, class Truth>
double worst_ulps(Ours ours, Truth truth, T low, T high) {
  double worst = 0;
  for (int i = 0; i <= 4000; ++i) {
    const T x = low + (high - low) * static_cast<T>(i) / 4000;
    worst = std::fmax(worst, ulps<T>(ours(x), truth(static_cast<wide>(x))));
  }
  return worst;
}

template <class Function, class Derivative>
double worst_slope_error(Function f, Derivative d) {
  double worst = 0;
  for (double x = -8; x <= 8; x += 0.0625) {
    const double h = 1e-3;
    const double slope = (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h);
    worst = std::fmax(worst, std::fabs(slope - d(x)));
  }
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("values are within 4 units of the last place", T, float, double) {
  const auto sigmoid = [](wide x) { return 1 / (1 + std::exp(-x)); };
  CHECK(worst_ulps<T>([](T x) { return math::sigmoid(x); }, sigmoid, T(-40), T(40)) <= 4);
  CHECK(worst_ulps<T>([](T x) { return math::silu(x); }, [&](wide x) { return x * sigmoid(x); },
                      T(-40), T(40)) <= 4);
  CHECK(worst_ulps<T>([](T x) { return math::softplus(x); },
                      [](wide x) { return x > 60 ? x : std::log1p(std::exp(x)); }, T(-40),
                      T(40)) <= 4);
  // The argument of erfc is rounded once; its relative condition number on the left tail is x^2.
  CHECK(worst_ulps<T>([](T x) { return math::gelu(x); }, [](wide x) { return x * wide_cdf(x); },
                      T(-1), T(10)) <= 4);
  CHECK(worst_ulps<T>([](T x) { return math::gelu(x); }, [](wide x) { return x * wide_cdf(x); },
                      T(-5), T(-1)) <= 4 + 25);
  CHECK(worst_ulps<T>([](T x) { return math::normal_density(x); }, wide_density, T(-2), T(2)) <= 8);
}

TEST_CASE("derivatives agree with 4-point differences") {
  CHECK(worst_slope_error([](double x) { return math::sigmoid(x); },
                          [](double x) { return math::sigmoid_derivative(x); }) < 1e-11);
  CHECK(worst_slope_error([](double x) { return math::silu(x); },
                          [](double x) { return math::silu_derivative(x); }) < 1e-11);
  CHECK(worst_slope_error([](double x) { return math::gelu(x); },
                          [](double x) { return math::gelu_derivative(x); }) < 1e-11);
  CHECK(worst_slope_error([](double x) { return math::softplus(x); },
                          [](double x) { return math::softplus_derivative(x); }) < 1e-11);
}

TEST_CASE_TEMPLATE("ends of the range", T, float, double) {
  const T huge = std::numeric_limits<T>::max();
  const T infinity = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(math::sigmoid(huge) == T(1));
  CHECK(math::sigmoid(-huge) == T(0));
  CHECK(math::sigmoid(T(0)) == T(0.5));
  CHECK(math::silu(huge) == huge);
  CHECK(math::silu(-huge) == T(0));
  CHECK(math::gelu(huge) == huge);
  CHECK(math::gelu(-huge) == T(0));
  CHECK(math::softplus(huge) == huge);
  CHECK(math::softplus(-huge) == T(0));
  CHECK(math::sigmoid(infinity) == T(1));
  CHECK(math::softplus(infinity) == infinity);
  CHECK(std::isnan(math::sigmoid(nan)));
  CHECK(std::isnan(math::silu(nan)));
  CHECK(std::isnan(math::gelu(nan)));
  CHECK(std::isnan(math::softplus(nan)));
  CHECK(math::sigmoid_derivative(huge) == T(0));
  CHECK(math::silu_derivative(T(0)) == T(0.5));
  CHECK(math::gelu_derivative(T(0)) == T(0.5));
}
