// SPDX-License-Identifier: Apache-2.0
// The test of an activation: row_cases with the ops and oracle functions of one kind, any rank, and
// infinite values. A Kind names the ops, the oracle's value and slope, the slope on absolute
// values, the condition of its left tail and the limits.
#pragma once

#include "deepseek/ops/activation.hpp"

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/reference/activation.hpp"

#include "ops/row_cases.hpp"
#include "oracle/activation.hpp"

#include <limits>

namespace activation_cases {

namespace ds = deepseek;
using row_cases::reals;
using row_cases::result;
using row_cases::row_case;

template <class Kind>
struct activation_test {
  static constexpr const char* name = Kind::name;
  static std::vector<int> inputs() { return {2}; }

  template <class B, class From, class To>
  static void forward(const B& b, From& in, To& out) {
    Kind::op(b, in[0].matrix(), out[0].matrix());
  }
  template <class B, class Grids>
  static void backward(const B& b, Grids& in, Grids& out) {
    backward(b, in, out, out[0]);
  }
  template <class B, class Grids, class DX>
  static void backward(const B& b, Grids& in, Grids&, DX& dx) {
    Kind::backward_op(b, in[0].matrix(), in[2].matrix(), dx.matrix());
  }
  static result expected(const std::vector<reals>& in, const row_case&) {
    result y = row_cases::exact_magnitude(oracle::each(Kind::value, in[0]));
    for (std::size_t i = 0; i < in[0].size(); ++i) y.magnitude[i] *= Kind::tail(in[0][i]);
    return y;
  }
  static std::vector<result> expected_backward(const std::vector<reals>& in, const row_case&) {
    result dx{reals(in[0].size()), reals(in[0].size())};
    for (std::size_t i = 0; i < in[0].size(); ++i) {
      dx.value[i] = in[2][i] * Kind::slope(in[0][i]);
      dx.magnitude[i] = std::fabs(in[2][i]) * Kind::slope_magnitude(in[0][i]);
    }
    return {dx};
  }
  static support::limits limits(ds::dtype type, const row_case&, bool on_cpu) {
    return trusting(row_cases::element_limits(type, Kind::ulps(type, on_cpu)));
  }
  static support::limits backward_limits(ds::dtype type, const row_case&, bool on_cpu) {
    return trusting(row_cases::element_limits(type, 2 * Kind::ulps(type, on_cpu)));
  }
  static support::limits trusting(support::limits l) {
    l.zeros = 0.75;  // the left half goes to zero
    return l;
  }
};

// The limits at infinity, NaN kept; on enough elements to fill registers.
template <class Kind, class T, class B>
void check_infinite(const B& b) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  ds::tensor<T, ds::host, ds::dyn> x({37}), y({37}), dx({37}), dy({37});
  for (int i = 0; i < 37; ++i) {
    constexpr T cycle[] = {inf, -inf, nan, T(-0.0), T(1)};
    x.data()[i] = cycle[i % 5];
    dy.data()[i] = T(2);
  }
  Kind::op(b, x, y);
  Kind::backward_op(b, x, dy, dx);
  for (int i = 0; i < 37; ++i) {
    const T value = y.data()[i], slope = dx.data()[i];
    const T at_zero = T(2 * Kind::slope(0));
    const bool right = i % 5 == 0   ? value == inf && slope == T(2)
                       : i % 5 == 1 ? value == T(0) && slope == T(0)
                       : i % 5 == 2 ? std::isnan(value) && std::isnan(slope)
                       : i % 5 == 3 ? value == T(0) && std::fabs(slope - at_zero) < T(1e-6)
                                    : std::isfinite(value);
    support::expect_true(Kind::name, support::text("infinite", i), right, "not the limit");
  }
}

// A rank-3 view with gaps in every extent, a rank-0 one, and a row longer than one task.
template <class Kind, class B>
void check_ranks(const B& b) {
  using T = float;
  ds::tensor<T, ds::host, 4, 5, 9> data;
  for (int i = 0; i < 180; ++i) data.data()[i] = static_cast<T>(i % 11) / 4 - 1;
  ds::tensor<T, ds::host, 3, 4, 7> y;
  const ds::view<const T, ds::host, ds::dyn, ds::dyn, ds::dyn> x(data.data(), {3, 4, 7},
                                                                 {45, 9, 1});
  Kind::op(b, x, y);
  bool right = true;
  for (int i = 0; i < 84; ++i) {
    const T want = static_cast<T>(Kind::value(x(i / 28, i / 7 % 4, i % 7)));
    right = right && std::fabs(y.data()[i] - want) <= T(1e-5);
  }
  support::expect_true(Kind::name, "rank 3", right, "an element is wrong");
  T one = 0.75F;
  const ds::view<T, ds::host> scalar(&one, {});
  Kind::op(b, scalar, scalar);
  support::expect_true(Kind::name, "rank 0", std::fabs(one - Kind::value(0.75)) < 1e-5, "wrong");
  ds::tensor<T, ds::host, ds::dyn, ds::dyn> wide({2, 20001}), out({2, 20000});
  for (ds::index_t i = 0; i < wide.size(); ++i) wide.data()[i] = static_cast<T>(i % 17) / 8 - 1;
  const ds::view<const T, ds::host, ds::dyn, ds::dyn> cut(wide.data(), {2, 20000}, {20001, 1});
  Kind::op(b, cut, out);
  right = true;
  for (ds::index_t i = 0; i < 40000; ++i) {
    const double want = Kind::value(cut(i / 20000, i % 20000));
    right = right && std::fabs(out.data()[i] - want) <= 1e-5;
  }
  support::expect_true(Kind::name, "long rows", right, "an element is wrong");
}

template <class Kind, class B>
void check_errors(const B& b) {
  using ds::error_code;
  const std::string name = Kind::name;
  float data[64] = {};
  const auto x = row_cases::shaped(data, 2, 4), wrong = row_cases::shaped(data, 2, 5);
  const auto null = row_cases::shaped<float>(nullptr, 2, 4);
  CHECK_ERROR(error_code::shape_mismatch, Kind::name, ": y[2, 5]", Kind::op(b, x, wrong));
  CHECK_ERROR(error_code::invalid_argument, Kind::name, ": x[2, 4]", Kind::op(b, null, x));
  CHECK_ERROR(error_code::invalid_argument, Kind::name, ": y[2, 4]", Kind::op(b, x, null));
  CHECK_ERROR(error_code::shape_mismatch, "backward: dy[2, 5]", Kind::backward_op(b, x, wrong, x));
  CHECK_ERROR(error_code::shape_mismatch, "backward: dx[2, 5]", Kind::backward_op(b, x, x, wrong));
  CHECK_ERROR(error_code::invalid_argument, "8 elements", Kind::backward_op(b, x, x, null));
  support::facet(name, "errors");
}

template <class Kind, class B>
void check_contract(const B& b) {
  check_infinite<Kind, float>(b);
  check_infinite<Kind, double>(b);
  check_ranks<Kind>(b);
  check_errors<Kind>(b);
}

}  // namespace activation_cases
