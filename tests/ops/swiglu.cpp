// SPDX-License-Identifier: Apache-2.0
// swiglu and its backward against the oracle, differences and their contract.
#include "deepseek/ops/swiglu.hpp"

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/reference/swiglu.hpp"

#include "ops/row_cases.hpp"
#include "oracle/activation.hpp"

#include <limits>

namespace ds = deepseek;
using row_cases::reals;
using row_cases::result;
using row_cases::row_case;

namespace {

struct swiglu_test {
  static constexpr const char* name = "swiglu";
  static std::vector<int> inputs() { return {2, 2}; }

  template <class B, class From, class To>
  static void forward(const B& b, From& in, To& out) {
    ds::ops::swiglu(b, in[0].matrix(), in[1].matrix(), out[0].matrix());
  }
  template <class B, class Grids>
  static void backward(const B& b, Grids& in, Grids& out) {
    backward(b, in, out, out[0]);
  }
  template <class B, class Grids, class DX>
  static void backward(const B& b, Grids& in, Grids& out, DX& dgate) {
    ds::ops::swiglu_backward(b, ds::swiglu_inputs{in[0].matrix(), in[1].matrix()}, in[3].matrix(),
                             ds::swiglu_gradients{dgate.matrix(), out[1].matrix()});
  }
  static result expected(const std::vector<reals>& in, const row_case&) {
    return row_cases::exact_magnitude(oracle::swiglu(in[0], in[1]));
  }
  static std::vector<result> expected_backward(const std::vector<reals>& in, const row_case&) {
    const auto g = oracle::swiglu_backward(in[0], in[1], in[3]);
    result dgate{g.dgate, reals(g.dgate.size())};
    for (std::size_t i = 0; i < g.dgate.size(); ++i) {
      const long double s = oracle::detail::sigmoid(in[0][i]);
      const long double size = s + std::fabs(in[0][i]) * s * oracle::detail::sigmoid(-in[0][i]);
      dgate.magnitude[i] = std::fabs(in[3][i] * in[1][i]) * static_cast<double>(size);
    }
    return {dgate, row_cases::exact_magnitude(g.dup)};
  }
  static support::limits limits(ds::dtype type, const row_case&, bool) { return of(type, 5); }
  static support::limits backward_limits(ds::dtype type, const row_case&, bool) {
    return of(type, 10);
  }
  static support::limits of(ds::dtype type, double ulps) {
    support::limits l = row_cases::element_limits(type, ulps);
    l.zeros = 0.75;  // the left half goes to zero
    return l;
  }
};

// Limits at infinity, NaN of either argument kept; dgate and dup over the inputs.
template <class B>
void check_infinite(const B& b) {
  using limits = std::numeric_limits<float>;
  constexpr float inf = limits::infinity(), nan = limits::quiet_NaN();
  constexpr float gates[] = {inf, -inf, nan, 1, 2}, ups[] = {2, 2, 2, nan, 1};
  ds::tensor<float, ds::host, ds::dyn> gate({35}), up({35}), y({35}), dgate({35}), dup({35});
  for (int i = 0; i < 35; ++i) {
    gate.data()[i] = gates[i % 5];
    up.data()[i] = ups[i % 5];
  }
  ds::ops::swiglu(b, gate, up, y);
  const auto& dy = gate;
  ds::ops::swiglu_backward(b, ds::swiglu_inputs{gate, up}, dy, ds::swiglu_gradients{dgate, dup});
  for (int i = 0; i < 35; ++i) {
    const float v = y.data()[i];
    const bool right = i % 5 == 0   ? v == inf
                       : i % 5 == 1 ? v == 0
                       : i % 5 < 4  ? std::isnan(v)
                                    : std::fabs(v - 1.7615942F) < 1e-6F;
    support::expect_true("swiglu", support::text("infinite", i), right, "not the limit");
  }
  ds::ops::swiglu_backward(b, ds::swiglu_inputs{gate, up}, dy, ds::swiglu_gradients{gate, up});
  const auto same = [](const auto& a, const auto& c) {
    return std::memcmp(a.data(), c.data(), 35 * sizeof(float)) == 0;
  };
  support::expect_true("swiglu", "gradients over the inputs", same(gate, dgate) && same(up, dup),
                       "they differ");
}

// With a limit: what the oracle gives for the cut inputs, gradients of 0 where they were cut; the
// limit itself is not cut; infinity is, NaN stays.
template <class T, class B>
void check_limit(const B& b) {
  constexpr double limit = 1.5;
  for (const row_case& c : {row_case{3, 40}, row_case{2, 7, row_cases::strides::transposed}}) {
    auto in = row_cases::draw_inputs<swiglu_test, T>(c);
    in[0][0] = in[1][0] = limit, in[0][1] = 9, in[1][2] = -9;
    reals gate = in[0], up = in[1], dy = support::rounded_to<T>(support::loss_weights(gate.size()));
    for (std::size_t i = 0; i < gate.size(); ++i) {
      gate[i] = std::fmin(gate[i], limit);
      up[i] = std::fmax(std::fmin(up[i], limit), -limit);
    }
    auto g = oracle::swiglu_backward(gate, up, dy);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      if (gate[i] != in[0][i]) g.dgate[i] = 0;
      if (up[i] != in[1][i]) g.dup[i] = 0;
    }
    in.push_back(dy);
    const auto got = row_cases::run<T>(c, in, {2, 2, 2}, {2, 2, 2}, [&](auto& from, auto& to) {
      ds::ops::swiglu(b, from[0].matrix(), from[1].matrix(), to[0].matrix(), limit);
      ds::ops::swiglu_backward(b, ds::swiglu_inputs{from[0].matrix(), from[1].matrix()},
                               from[2].matrix(),
                               ds::swiglu_gradients{to[1].matrix(), to[2].matrix()}, limit);
    });
    auto allowed = row_cases::element_limits(ds::dtype_of<T>, 20);
    allowed.zeros = 1;
    const reals want[] = {oracle::swiglu(gate, up), g.dgate, g.dup};
    for (std::size_t i = 0; i < 3; ++i) {
      support::expect("swiglu", support::text("limit, result", i) + " " + c.text(),
                      support::compare(allowed, got[i], want[i], c.dim));
    }
  }
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  ds::tensor<T, ds::host, 4> gate, up, y;
  const T gates[] = {inf, 1, nan, 1}, ups[] = {1, -inf, 1, nan};
  std::copy_n(gates, 4, gate.data()), std::copy_n(ups, 4, up.data());
  ds::ops::swiglu(b, gate, up, y, limit);
  CHECK(std::fabs(static_cast<double>(y.data()[0]) - 1.22636) < 1e-4);
  CHECK(std::fabs(static_cast<double>(y.data()[1]) + 1.09659) < 1e-4);
  CHECK((std::isnan(y.data()[2]) && std::isnan(y.data()[3])));
}

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  float data[64] = {};
  const auto x = row_cases::shaped(data, 2, 4), wrong = row_cases::shaped(data, 2, 5);
  const auto null = row_cases::shaped<float>(nullptr, 2, 4);
  const auto& op = ds::ops::swiglu;
  CHECK_ERROR(error_code::shape_mismatch, "swiglu: up[2, 5]", "expected 4", op(b, x, wrong, x));
  CHECK_ERROR(error_code::shape_mismatch, "swiglu: y[2, 5]", op(b, x, x, wrong));
  CHECK_ERROR(error_code::invalid_argument, "swiglu: up[2, 4]", op(b, x, null, x));
  CHECK_ERROR(error_code::invalid_argument, "swiglu: limit is -1", op(b, x, x, x, -1));
  const auto& back = ds::ops::swiglu_backward;
  const ds::swiglu_inputs in{x, x};
  const ds::swiglu_gradients out{x, x};
  CHECK_ERROR(error_code::shape_mismatch, "dy[2, 5]", back(b, in, wrong, out));
  CHECK_ERROR(error_code::shape_mismatch, "dgate[2, 5]",
              back(b, in, x, ds::swiglu_gradients{wrong, x}));
  CHECK_ERROR(error_code::shape_mismatch, "dup[2, 5]",
              back(b, in, x, ds::swiglu_gradients{x, wrong}));
  CHECK_ERROR(error_code::invalid_argument, "dup[2, 4]",
              back(b, in, x, ds::swiglu_gradients{x, null}));
  support::facet("swiglu", "errors");
}

}  // namespace

TEST_CASE("swiglu: reference") {
  row_cases::check_on_reference<swiglu_test>();
}
TEST_CASE("swiglu: cpu") {
  row_cases::check_on_cpu<swiglu_test>();
}
TEST_CASE("swiglu: infinite values, errors") {
  const ds::reference reference;
  const ds::cpu cpu{{.threads = 2}};
  check_infinite(reference);
  check_infinite(cpu);
  check_limit<float>(reference);
  check_limit<double>(reference);
  check_limit<float>(cpu);
  check_limit<double>(cpu);
  check_errors(reference);
  check_errors(cpu);
}
