// SPDX-License-Identifier: Apache-2.0
// relu and its backward against the oracle, differences and their contract.
#include "ops/activation_cases.hpp"

namespace ds = deepseek;

namespace {

struct kind {
  static constexpr const char* name = "relu";
  static constexpr auto& op = ds::ops::relu;
  static constexpr auto& backward_op = ds::ops::relu_backward;
  static double value(double x) { return oracle::relu(x); }
  static double slope(double x) { return oracle::relu_slope(x); }
  static double tail(double) { return 1; }
  static double slope_magnitude(double x) { return slope(x); }
  static double ulps(ds::dtype, bool) { return 0; }
};
using test = activation_cases::activation_test<kind>;

}  // namespace

TEST_CASE("relu: reference") {
  row_cases::check_on_reference<test>();
}
TEST_CASE("relu: cpu") {
  row_cases::check_on_cpu<test>();
}
TEST_CASE("relu: infinite values, ranks, errors") {
  activation_cases::check_contract<kind>(ds::reference{});
  activation_cases::check_contract<kind>(ds::cpu{{.threads = 2}});
}
