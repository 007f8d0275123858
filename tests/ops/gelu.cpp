// SPDX-License-Identifier: Apache-2.0
// gelu and its backward against the oracle, differences and their contract.
#include "ops/activation_cases.hpp"

namespace ds = deepseek;

namespace {

struct kind {
  static constexpr const char* name = "gelu";
  static constexpr auto& op = ds::ops::gelu;
  static constexpr auto& backward_op = ds::ops::gelu_backward;
  static double value(double x) { return oracle::gelu(x); }
  static double slope(double x) { return oracle::gelu_slope(x); }
  // e^(-x^2 / 2) turns an error u of x into x^2 u.
  static double tail(double x) { return x < 0 ? 1 + x * x : 1; }
  static double slope_magnitude(double x) {
    const long double size = std::fabs(x);
    return static_cast<double>(tail(x) * oracle::detail::normal_cdf(x) +
                               (1 + x * x) * size * oracle::detail::normal_density(x));
  }
  // The float kernel promises a relative error of 3e-6 (50 ulp) in the left tail.
  static double ulps(ds::dtype type, bool on_cpu) {
    return on_cpu && type == ds::dtype::f32 ? 52 : 4;
  }
};
using test = activation_cases::activation_test<kind>;

}  // namespace

TEST_CASE("gelu: reference") {
  row_cases::check_on_reference<test>();
}
TEST_CASE("gelu: cpu") {
  row_cases::check_on_cpu<test>();
}
TEST_CASE("gelu: infinite values, ranks, errors") {
  activation_cases::check_contract<kind>(ds::reference{});
  activation_cases::check_contract<kind>(ds::cpu{{.threads = 2}});
}
