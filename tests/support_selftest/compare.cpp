// SPDX-License-Identifier: Apache-2.0
// The comparator itself: twenty planted wrong answers must fail, right ones must pass, weak
// references are refused.
#include "support/compare.hpp"
#include <deepseek/core/dtype.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using deepseek::bf16;
using deepseek::dtype;
using deepseek::f16;
using support::comparison;
using support::values;
using reals = std::vector<double>;

namespace {

// y = a b for a [m, k], b [k, n], in double, with the magnitude |a||b|; and as a float program
// would compute it.
struct product {
  std::size_t m = 96, n = 33, k = 64;
  reals a, b, r, s, y32;

  explicit product(values kind) {
    support::numbers from(support::to_string(kind));
    a = support::rounded_to<float>(support::draw(kind, m * k, from));
    b = support::rounded_to<float>(support::draw(kind, k * n, from));
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) add(i, j);
    }
  }
  void add(std::size_t i, std::size_t j) {
    double sum = 0, size = 0;
    float sum32 = 0;
    for (std::size_t l = 0; l < k; ++l) {
      const double term = a[i * k + l] * b[l * n + j];
      sum += term;
      size += std::fabs(term);
      sum32 += static_cast<float>(a[i * k + l]) * static_cast<float>(b[l * n + j]);
    }
    r.push_back(sum);
    s.push_back(size);
    y32.push_back(static_cast<double>(sum32));
  }
  comparison judged(dtype type, const reals& y) const {
    return support::compare(support::gemm_limits(type, k), y, r, n, s);
  }
};

const product& normal() {
  static const product p(values::normal);
  return p;
}

// Drops the low 16 bits instead of rounding: the error of a careless store.
double truncated_bf16(double x) {
  const double step = std::ldexp(1, std::ilogb(x) - 7);
  return std::trunc(x / step) * step;
}

struct planted {
  const char* what;
  dtype type;
  std::function<void(reals&)> spoil;
};

const std::vector<planted>& wrong_answers() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  static const std::vector<planted> list = {
      {"one NaN", dtype::f32, [=](reals& y) { y[7] = nan; }},
      {"one infinity", dtype::f32, [=](reals& y) { y[900] = infinity; }},
      {"one element zero", dtype::f32, [](reals& y) { y[1000] = 0; }},
      {"one element with the wrong sign", dtype::f32, [](reals& y) { y[33] = -y[33]; }},
      {"last element not written", dtype::f32, [](reals& y) { y.back() = 0; }},
      {"last row zero", dtype::f32, [](reals& y) { std::fill(y.end() - 33, y.end(), 0.0); }},
      {"two rows exchanged", dtype::f32,
       [](reals& y) { std::swap_ranges(y.begin(), y.begin() + 33, y.begin() + 66); }},
      {"two columns exchanged", dtype::f32,
       [](reals& y) {
         for (std::size_t i = 0; i < y.size(); i += 33) std::swap(y[i + 3], y[i + 4]);
       }},
      {"one element off by 2e-4", dtype::f32, [](reals& y) { y[500] += 2e-4; }},
      {"scale off by 1e-5", dtype::f32,
       [](reals& y) {
         for (double& x : y) x *= 1 + 1e-5;
       }},
      {"stored as bf16", dtype::f32, [](reals& y) { y = support::rounded_to<bf16>(y); }},
      {"stored as f16", dtype::f32, [](reals& y) { y = support::rounded_to<f16>(y); }},
      {"one row stored as f16", dtype::f32,
       [](reals& y) {
         for (std::size_t i = 330; i < 363; ++i) y[i] = static_cast<double>(float(f16(y[i])));
       }},
      {"a bias of 1e-4", dtype::f32,
       [](reals& y) {
         for (double& x : y) x += 1e-4;
       }},
      {"all zero", dtype::f32, [](reals& y) { y.assign(y.size(), 0.0); }},
      {"an element too few", dtype::f32, [](reals& y) { y.pop_back(); }},
      {"bf16 truncated", dtype::bf16,
       [](reals& y) {
         for (double& x : y) x = truncated_bf16(x);
       }},
      {"bf16 rounded twice through a coarser grid", dtype::bf16,
       [](reals& y) {
         for (double& x : y) x = 2 * static_cast<double>(float(bf16(x * 1.004 / 2)));
       }},
      {"f16 with the error of bf16", dtype::f16,
       [](reals& y) { y = support::rounded_to<bf16>(y); }},
      {"bf16 with one row of another", dtype::bf16,
       [](reals& y) {
         y = support::rounded_to<bf16>(y);
         std::copy(y.begin(), y.begin() + 33, y.begin() + 33);
       }},
  };
  return list;
}

}  // namespace

TEST_CASE("twenty planted wrong answers fail") {
  CHECK(wrong_answers().size() == 20);
  for (const auto& wrong : wrong_answers()) {
    reals y = normal().y32;
    wrong.spoil(y);
    const comparison result = normal().judged(wrong.type, y);
    CHECK_MESSAGE(!result.pass, wrong.what);
    CHECK_MESSAGE(!result.mistrusted, wrong.what);
    CHECK_MESSAGE(!result.message.empty(), wrong.what);
  }
}

TEST_CASE("right answers pass") {
  for (values kind : {values::normal, values::positive, values::integer, values::wide,
                      values::large, values::tiny, values::outlier}) {
    const product p(kind);
    const comparison f32 = p.judged(dtype::f32, p.y32);
    CHECK_MESSAGE(f32.pass, support::to_string(kind), ": ", f32.message);
    const comparison b16 = p.judged(dtype::bf16, support::rounded_to<bf16>(p.y32));
    CHECK_MESSAGE(b16.pass, support::to_string(kind), ": ", b16.message);
    const comparison h16 = p.judged(dtype::f16, support::rounded_to<f16>(p.y32));
    CHECK_MESSAGE(h16.pass, support::to_string(kind), ": ", h16.message);
    const comparison f64 = p.judged(dtype::f64, p.r);
    CHECK_MESSAGE(f64.pass, support::to_string(kind), ": ", f64.message);
  }
}

TEST_CASE("right answers of few elements pass, down to one") {
  for (std::size_t count = 1; count < 40; ++count) {
    // A row of its own each, then all in one row.
    const reals r(normal().r.begin(), normal().r.begin() + static_cast<std::ptrdiff_t>(count));
    const reals s(normal().s.begin(), normal().s.begin() + static_cast<std::ptrdiff_t>(count));
    const reals y(normal().y32.begin(), normal().y32.begin() + static_cast<std::ptrdiff_t>(count));
    for (std::size_t row : {std::size_t{1}, count}) {
      const auto f32 = support::compare(support::gemm_limits(dtype::f32, 64), y, r, row, s);
      CHECK_MESSAGE(f32.pass, f32.message);
      const auto b16 = support::compare(support::gemm_limits(dtype::bf16, 64),
                                        support::rounded_to<bf16>(y), r, row, s);
      CHECK_MESSAGE(b16.pass, b16.message);
    }
  }
}

TEST_CASE("infinity and NaN in the right place pass, overflow of the type counts as infinity") {
  reals r = normal().r;
  r[0] = std::numeric_limits<double>::infinity();
  r[1] = std::numeric_limits<double>::quiet_NaN();
  r[2] = 1e6;
  const auto allowed = support::gemm_limits(dtype::f16, 64);
  CHECK(support::compare(allowed, support::rounded_to<f16>(r), r, 33, normal().s).pass);
  reals y = support::rounded_to<f16>(r);
  y[0] = -y[0];
  CHECK_FALSE(support::compare(allowed, y, r, 33, normal().s).pass);
  y = support::rounded_to<f16>(r);
  y[2] = 65504;
  CHECK_FALSE(support::compare(allowed, y, r, 33, normal().s).pass);
}

TEST_CASE("a reference that proves nothing is mistrusted, not passed") {
  const auto judged = [](const reals& r) {
    return support::compare(support::elementwise_limits(dtype::f32, 4), r, r, r.size());
  };
  const comparison zeros = judged({1, 2, 0, 0, 3});
  CHECK_FALSE(zeros.pass);
  CHECK(zeros.mistrusted);
  CHECK(judged({5, 5, 5, 5}).mistrusted);
  CHECK(judged({1e-40, 2e-40}).mistrusted);
  CHECK(judged({0, 1, 2, 3}).pass);
  CHECK(judged({}).pass);
  auto relu = support::elementwise_limits(dtype::f32, 4);
  relu.zeros = 0.6;
  CHECK(support::compare(relu, reals{1, 2, 0, 0}, reals{1, 2, 0, 0}, 4).pass);
  relu.trust_equal = true;
  CHECK(support::compare(relu, reals{2, 2}, reals{2, 2}, 2).pass);
}

TEST_CASE("exact means exact, also for zeros") {
  const auto exact = support::exact(dtype::f32);
  CHECK(support::compare(exact, reals{1, 2, 3}, reals{1, 2, 3}, 3).pass);
  CHECK(support::compare(exact, reals{0, 0}, reals{0, 0}, 2).pass);
  CHECK_FALSE(support::compare(exact, reals{1, 2, 3}, reals{1, 2, 3.0000002}, 3).pass);
  CHECK_FALSE(support::compare(exact, reals{0, 1e-45}, reals{0, 0}, 2).pass);
}

TEST_CASE("units of the last place") {
  const auto allowed = support::elementwise_limits(dtype::f32, 2);
  const double unit = 0x1p-23;
  CHECK(support::compare(allowed, reals{1 + 2 * unit, 3}, reals{1, 3}, 2).pass);
  CHECK_FALSE(support::compare(allowed, reals{1 + 3 * unit, 3}, reals{1, 3}, 2).pass);
}
