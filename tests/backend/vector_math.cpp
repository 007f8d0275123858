// SPDX-License-Identifier: Apache-2.0
// Elementary functions against the C library in the next wider type, over all exponents and at the
// ends of the range.
#include "deepseek/backend/cpu/vector_math.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace simd = deepseek::simd;

namespace {

// Positive and negative numbers of every exponent, `per_exponent` each.
template <class T>
std::vector<T> all_exponents(int per_exponent) {
  std::vector<T> all{T(0), T(-0.0)};
  using limits = std::numeric_limits<T>;
  for (int e = limits::min_exponent - limits::digits; e < limits::max_exponent; ++e) {
    for (int i = 0; i < per_exponent; ++i) {
      const T x = std::ldexp(1 + T(i) / T(per_exponent) + T(i) * limits::epsilon(), e);
      all.push_back(x);
      all.push_back(-x);
    }
  }
  return all;
}

// Evenly spaced in [-bound, bound].
template <class T>
std::vector<T> grid(T bound, int count) {
  std::vector<T> all;
  for (int i = 0; i <= count; ++i) all.push_back(bound * (2 * T(i) / T(count) - 1));
  return all;
}

template <class T, class F>
std::vector<T> map(const std::vector<T>& x, F f) {
  using pack = simd::pack<T>;
  std::vector<T> y(x.size());
  for (std::size_t i = 0; i < x.size(); i += pack::width) {
    const auto rest = static_cast<std::ptrdiff_t>(x.size() - i);
    f(pack::load_up_to(x.data() + i, rest)).store_up_to(y.data() + i, rest);
  }
  return y;
}

// Distance in units of the last place of the true value; subnormals have a fixed unit.
template <class T>
double ulps(T got, long double truth) {
  using limits = std::numeric_limits<T>;
  if (std::isinf(static_cast<T>(truth)) && std::isinf(got)) return 0;
  const int e = std::max(std::ilogb(static_cast<double>(truth)), limits::min_exponent - 1);
  const long double unit =
      truth == 0 ? limits::denorm_min() : std::ldexp(1.0L, e - limits::digits + 1);
  return static_cast<double>(std::abs(static_cast<long double>(got) - truth) / unit);
}

template <class T, class F>
T at(F f, T x) {
  return f(simd::pack<T>::broadcast(x)).v[0];
}

constexpr auto vector_exp = [](auto x) { return simd::exp(x); };

}  // namespace

TEST_CASE_TEMPLATE("exp: error over all exponents and a dense grid", T, float, double) {
  constexpr bool single = std::is_same_v<T, float>;
  std::vector<T> x = all_exponents<T>(single ? 64 : 16),
                 dense = grid<T>(single ? 104 : 746, 400000);
  x.insert(x.end(), dense.begin(), dense.end());
  const auto y = map(x, vector_exp);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, ulps(y[i], std::exp(static_cast<long double>(x[i]))));
  }
  MESSAGE("exp: largest error ", worst, " ulp");
  CHECK(worst <= (single ? 1.5 : 2.0));
}

TEST_CASE_TEMPLATE("exp: limits", T, float, double) {
  const T infinity = std::numeric_limits<T>::infinity(), most = std::numeric_limits<T>::max();
  CHECK(at<T>(vector_exp, -infinity) == T(0));
  CHECK(at<T>(vector_exp, -most) == T(0));
  CHECK(at<T>(vector_exp, infinity) == infinity);
  CHECK(at<T>(vector_exp, most) == infinity);
  CHECK(at<T>(vector_exp, T(0)) == T(1));
  CHECK(at<T>(vector_exp, T(-0.0)) == T(1));
  CHECK(std::isnan(at<T>(vector_exp, std::numeric_limits<T>::quiet_NaN())));
}

TEST_CASE_TEMPLATE("sigmoid, silu, tanh and their derivatives", T, float, double) {
  const double e = std::numeric_limits<T>::epsilon();
  const auto x = grid<T>(30, 60001);
  const auto s = map(x, [](auto v) { return simd::sigmoid(v); });
  const auto u = map(x, [](auto v) { return simd::silu(v); });
  const auto d = map(x, [](auto v) { return simd::silu_derivative(v); });
  const auto t = map(x, [](auto v) { return simd::tanh(v); });
  double sigmoid = 0, silu = 0, derivative = 0, tanh = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double v = x[i], true_s = 1 / (1 + std::exp(-v)),
                      true_d = true_s * (1 + v * (1 - true_s));
    sigmoid = std::max(sigmoid, static_cast<double>(std::abs(s[i] - true_s) / true_s));
    silu = std::max(
        silu, v == 0 ? 0 : static_cast<double>(std::abs(u[i] - v * true_s) / std::abs(v * true_s)));
    derivative = std::max(derivative, static_cast<double>(std::abs(d[i] - true_d)));
    const long double true_t = std::tanh(v);
    tanh = std::max(tanh, v == 0 ? std::abs(static_cast<double>(t[i]))
                                 : static_cast<double>(std::abs((t[i] - true_t) / true_t)));
  }
  CHECK(sigmoid <= 4 * e);
  CHECK(silu <= 5 * e);
  CHECK(derivative <= 32 * e);  // x (1 - s) loses what 1 - s has lost, times |x| e^-|x|
  CHECK(tanh <= 2 * e);
}

TEST_CASE_TEMPLATE("gelu and the normal distribution", T, float, double) {
  constexpr bool single = std::is_same_v<T, float>;
  const double e = std::numeric_limits<T>::epsilon();
  const auto x = grid<T>(9, 180001);
  const auto p = map(x, [](auto v) { return simd::normal_cdf(v); });
  const auto g = map(x, [](auto v) { return simd::gelu(v); });
  const auto d = map(x, [](auto v) { return simd::gelu_derivative(v); });
  double relative = 0, near = 0, absolute = 0, derivative = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double v = x[i], truth = std::erfc(-v / std::sqrt(2.0L)) / 2;
    const long double density = std::exp(-v * v / 2) * 0.398942280401432677939946L;
    const auto error = static_cast<double>(std::abs(p[i] - truth) / truth);
    (v < -4 ? relative : near) = std::max(v < -4 ? relative : near, error);
    absolute = std::max(absolute, static_cast<double>(std::abs(g[i] - v * truth)) /
                                      std::max(1.0, std::abs(double(v))));
    derivative = std::max(derivative, static_cast<double>(std::abs(d[i] - (truth + v * density))));
  }
  MESSAGE("normal_cdf: relative error ", near, " above -4, ", relative, " down to -9");
  CHECK(near <= (single ? 1e-6 : 1e-14));
  CHECK(relative <= (single ? (simd::has_fma ? 1e-6 : 3e-6) : 1e-13));
  CHECK(absolute <= 4 * e);
  CHECK(derivative <= 8 * e);
}

TEST_CASE_TEMPLATE("sqrt_softplus", T, float, double) {
  const auto root = [](auto v) { return simd::sqrt_softplus(v); };
  const auto x = grid<T>(80, 60001), y = map(x, root);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double v = x[i], tail = std::log1p(std::exp(-std::abs(v)));
    worst = std::max(worst, ulps(y[i], std::sqrt((v > 0 ? v : 0) + tail)));
  }
  MESSAGE("sqrt_softplus: largest error ", worst, " ulp");
  CHECK(worst <= 2.5);
  const T infinity = std::numeric_limits<T>::infinity();
  CHECK(at<T>(root, infinity) == infinity);
  CHECK(at<T>(root, -infinity) == T(0));
  CHECK(std::isnan(at<T>(root, std::numeric_limits<T>::quiet_NaN())));
}

TEST_CASE_TEMPLATE("activations at the ends of the range", T, float, double) {
  const T infinity = std::numeric_limits<T>::infinity(), most = std::numeric_limits<T>::max();
  const auto silu = [](auto v) { return simd::silu(v); };
  const auto gelu = [](auto v) { return simd::gelu(v); };
  for (T huge : {infinity, most}) {
    CHECK(at<T>(silu, huge) == huge);
    CHECK(at<T>(gelu, huge) == huge);
    CHECK(at<T>(silu, -huge) == T(0));
    CHECK(at<T>(gelu, -huge) == T(0));
    CHECK(at<T>([](auto v) { return simd::silu_derivative(v); }, huge) == T(1));
    CHECK(at<T>([](auto v) { return simd::silu_derivative(v); }, -huge) == T(0));
    CHECK(at<T>([](auto v) { return simd::gelu_derivative(v); }, huge) == T(1));
    CHECK(at<T>([](auto v) { return simd::gelu_derivative(v); }, -huge) == T(0));
    CHECK(at<T>([](auto v) { return simd::tanh(v); }, huge) == T(1));
    CHECK(at<T>([](auto v) { return simd::tanh(v); }, -huge) == T(-1));
    CHECK(at<T>([](auto v) { return simd::sigmoid(v); }, -huge) == T(0));
  }
  const T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(std::isnan(at<T>(silu, nan)));
  CHECK(std::isnan(at<T>(gelu, nan)));
  CHECK(std::isnan(at<T>([](auto v) { return simd::silu_derivative(v); }, nan)));
  CHECK(std::isnan(at<T>([](auto v) { return simd::gelu_derivative(v); }, nan)));
  CHECK(std::isnan(at<T>([](auto v) { return simd::tanh(v); }, nan)));
}
