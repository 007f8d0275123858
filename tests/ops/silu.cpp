// SPDX-License-Identifier: Apache-2.0
// silu and its backward against the oracle, differences and their contract.
#include "ops/activation_cases.hpp"

namespace ds = deepseek;

namespace {

struct kind {
  static constexpr const char* name = "silu";
  static constexpr auto& op = ds::ops::silu;
  static constexpr auto& backward_op = ds::ops::silu_backward;
  static double value(double x) { return oracle::silu(x); }
  static double slope(double x) { return oracle::silu_slope(x); }
  static double tail(double) { return 1; }
  static double slope_magnitude(double x) {
    const long double s = oracle::detail::sigmoid(x);
    return static_cast<double>(s + std::fabs(x) * s * oracle::detail::sigmoid(-x));
  }
  static double ulps(ds::dtype, bool) { return 4; }
};
using test = activation_cases::activation_test<kind>;

}  // namespace

TEST_CASE("silu: reference") {
  row_cases::check_on_reference<test>();
}
TEST_CASE("silu: cpu") {
  row_cases::check_on_cpu<test>();
}
TEST_CASE("silu: infinite values, ranks, errors") {
  activation_cases::check_contract<kind>(ds::reference{});
  activation_cases::check_contract<kind>(ds::cpu{{.threads = 2}});
}
