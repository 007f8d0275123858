// SPDX-License-Identifier: Apache-2.0
// sigmoid and its backward against the oracle, differences and their contract.
#include "ops/activation_cases.hpp"

namespace ds = deepseek;

namespace {

struct kind {
  static constexpr const char* name = "sigmoid";
  static constexpr auto& op = ds::ops::sigmoid;
  static constexpr auto& backward_op = ds::ops::sigmoid_backward;
  static double value(double x) { return oracle::sigmoid(x); }
  static double slope(double x) { return oracle::sigmoid_slope(x); }
  static double tail(double) { return 1; }
  static double slope_magnitude(double x) { return slope(x); }
  static double ulps(ds::dtype, bool) { return 4; }
};
// Equal x have one slope, and dy times a slope just below 1/4 is rounded by half a place in all
// elements alike: with 16 bits the roundings of a row are not independent.
struct test : activation_cases::activation_test<kind> {
  static support::limits backward_limits(ds::dtype type, const row_cases::row_case& c,
                                         bool on_cpu) {
    auto allowed = activation_test::backward_limits(type, c, on_cpu);
    if (c.kind == support::values::all_equal && allowed.rounding > 0) allowed.rounding = 1;
    return allowed;
  }
};

template <class T, class B>
void check_infinite(const B& b) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  ds::tensor<T, ds::host, ds::dyn> x({37}), y({37}), dx({37}), dy({37});
  for (int i = 0; i < 37; ++i) {
    constexpr T cycle[] = {inf, -inf, nan, T(-0.0)};
    x.data()[i] = cycle[i % 4];
    dy.data()[i] = T(2);
  }
  ds::ops::sigmoid(b, x, y);
  ds::ops::sigmoid_backward(b, x, dy, dx);
  for (int i = 0; i < 37; ++i) {
    const T value = y.data()[i], slope = dx.data()[i];
    const bool right = i % 4 == 0   ? value == T(1) && slope == T(0)
                       : i % 4 == 1 ? value == T(0) && slope == T(0)
                       : i % 4 == 2 ? std::isnan(value) && std::isnan(slope)
                                    : value == T(0.5) && slope == T(0.5);
    support::expect_true("sigmoid", support::text("infinite", i), right, "not the limit");
  }
}

template <class B>
void check_contract(const B& b) {
  check_infinite<float>(b);
  check_infinite<double>(b);
  activation_cases::check_ranks<kind>(b);
  activation_cases::check_errors<kind>(b);
}

}  // namespace

TEST_CASE("sigmoid: reference") {
  row_cases::check_on_reference<test>();
}
TEST_CASE("sigmoid: cpu") {
  row_cases::check_on_cpu<test>();
}
TEST_CASE("sigmoid: infinite values, ranks, errors") {
  check_contract(ds::reference{});
  check_contract(ds::cpu{{.threads = 2}});
}
