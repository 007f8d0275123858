// SPDX-License-Identifier: Apache-2.0
// Losses over a batch as a set: contrastive, preference, uncertainty_weights. Formulas in double,
// differences, golden values, errors.
#include "deepseek/ops/contrastive.hpp"
#include "deepseek/ops/preference.hpp"
#include "deepseek/ops/uncertainty_weights.hpp"

#include "deepseek/backend/reference/contrastive.hpp"
#include "deepseek/backend/reference/preference.hpp"
#include "deepseek/backend/reference/uncertainty_weights.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;
using code = ds::error_code;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
template <class T>
constexpr double roundoff = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;

struct contrast {
  double loss = 0;
  reals gradient;
};
contrast expected_contrast(const reals& x, std::size_t n) {
  contrast out{0, reals(n * n)};
  std::vector<long double> rows(n), columns(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      rows[i] += std::exp(static_cast<long double>(x[i * n + j]));
      columns[j] += std::exp(static_cast<long double>(x[i * n + j]));
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    out.loss += static_cast<double>(std::log(rows[i]) + std::log(columns[i]) - 2 * x[i * n + i]) /
                (2 * static_cast<double>(n));
    for (std::size_t j = 0; j < n; ++j) {
      const long double e = std::exp(static_cast<long double>(x[i * n + j]));
      out.gradient[i * n + j] = static_cast<double>(
          (e / rows[i] + e / columns[j] - (i == j ? 2 : 0)) / (2 * static_cast<long double>(n)));
    }
  }
  return out;
}

template <class T, class B>
std::vector<T> check_contrastive(const B& b, const shape_case& c) {
  const reals x = drawn_normal<T>(c, c.size(), " x");
  const auto want = expected_contrast(x, c.rows);
  sheet<T> scores(c.rows, c.rows, c.how, x), d(c.rows, c.rows, c.how);
  const double loss = ds::ops::contrastive(b, scores.matrix());
  support::expect_true("contrastive", where<T>(b, c),
                       std::fabs(loss - want.loss) <= 512 * roundoff<T> * (1 + want.loss),
                       "another value");
  ds::ops::contrastive_gradient(b, scores.matrix(), d.matrix());
  auto allowed = support::softmax_limits(type_of<T>, c.rows);
  allowed.relative += 128 * roundoff<T>;
  allowed.c = -1;
  judge("contrastive_gradient", where<T>(b, c), allowed, want.gradient, d.values(), c.size());
  support::expect_true("contrastive", "memory " + where<T>(b, c), scores.unchanged() && d.clean(),
                       "an input or memory around the gradient was written");
  const auto values = d.values();
  ds::ops::contrastive_gradient(b, scores.matrix(), scores.matrix());
  support::expect_true("contrastive_gradient", "over scores " + where<T>(b, c),
                       support::same_bits(scores.values(), values), "dscores over scores differs");
  return values;
}

ds::view<const std::int32_t, ds::host, ds::dyn, ds::dyn> pairs_of(const ints& v) {
  return {v.data(), {static_cast<ds::index_t>(v.size() / 2), 2}};
}

}  // namespace

TEST_CASE("contrastive: table of cases, gradient by differences") {
  for (const shape_case& c : shape_cases({1, 2, 5, 17, 33}, {0})) {
    const shape_case square{c.rows, c.rows, 0, c.how, c.kind};
    everywhere("contrastive", square.text(), [&](const auto& b, auto type) {
      return check_contrastive<decltype(type)>(b, square);
    });
  }
  on_both([](const auto& b) {
    const shape_case c{5, 5, 0, layout::padded};
    const reals x = drawn_normal<double>(c, 25, " x");
    sheet<double> in(5, 5, c.how, x), d(5, 5, c.how);
    ds::ops::contrastive_gradient(b, in.matrix(), d.matrix(), 3);
    const auto loss = [&](const reals& at) {
      sheet<double> from(5, 5, c.how, at);
      return 3 * ds::ops::contrastive(b, from.matrix());
    };
    support::expect_gradient("contrastive_gradient", c.text(),
                             support::check_gradient(loss, x, d.values()));
    ds::tensor<double, ds::host, ds::dyn, ds::dyn> none({0, 0}), wide({2, 3}), square({2, 2});
    CHECK(ds::ops::contrastive(b, none) == 0);
    ds::ops::contrastive_gradient(b, none, none);
    CHECK(ds::ops::contrastive(b, square) == doctest::Approx(std::log(2.0)));  // all alike
    CHECK_ERROR(code::shape_mismatch, "contrastive: scores[2, 3]", ds::ops::contrastive(b, wide));
    CHECK_ERROR(code::shape_mismatch, "contrastive_gradient: dscores[2, 3]",
                ds::ops::contrastive_gradient(b, square, wide));
    CHECK_ERROR(code::invalid_argument, "scale is inf",
                ds::ops::contrastive_gradient(b, square, square, infinity));
  });
  facets("contrastive", {"forward", "strides", "zero", "errors"});
  facets("contrastive_gradient", {"forward", "strides", "zero", "errors"});
  support::not_applicable("contrastive", "gradient");
}

TEST_CASE("pairs of preferred and rejected: golden value, formula, gradient, errors") {
  const ints one = {0, 1}, some = {3, 0, 1, 4, 2, 5, 3, 5, 1, 0};
  on_both([&](const auto& b) {
    using rewards = ds::view<const double, ds::host, ds::dyn>;
    const reals golden = {1.2, .3};
    const auto r = ds::ops::preference(b, rewards(golden.data(), {2}), pairs_of(one));
    CHECK(std::fabs(r.mean - .341153875) < 6e-10);
    CHECK(r.accuracy == 1);
    const ds::preference_spec spec{.margin = 0.3, .centering = 0.1, .scale = 2};
    const shape_case c{6, 1, 0, layout::padded};
    const reals x = drawn_normal<double>(c, 6, " r");
    const auto value = [&](const reals& at) {
      sheet<double> from(6, 1, layout::padded, at);
      return ds::ops::preference(b, from.vector(), pairs_of(some), spec).mean;
    };
    double want = 0;
    for (std::size_t i = 0; i < some.size(); i += 2) {
      const double w = x[static_cast<std::size_t>(some[i])];
      const double l = x[static_cast<std::size_t>(some[i + 1])];
      want += (std::log1p(std::exp(0.3 - w + l)) + 0.1 * (w + l) * (w + l)) / 5;
    }
    support::expect_true("preference", c.text(), std::fabs(value(x) - want) < 1e-14, "not it");
    sheet<double> from(6, 1, c.how, x), d(6, 1, c.how);
    ds::ops::preference_gradient(b, from.vector(), pairs_of(some), d.vector(), spec);
    support::expect_gradient(
        "preference_gradient", c.text(),
        support::check_gradient([&](const reals& at) { return 2 * value(at); }, x, d.values()));
    CHECK((from.unchanged() && d.clean()));
    const auto values = d.values();
    ds::ops::preference_gradient(b, from.vector(), pairs_of(some), from.vector(), spec);
    CHECK(support::same_bits(from.values(), values));
    sheet<float> narrow(6, 1, c.how, x), dn(6, 1, c.how);
    ds::ops::preference_gradient(b, narrow.vector(), pairs_of(some), dn.vector(), spec);
    for (std::size_t i = 0; i < 6; ++i) {
      CHECK(static_cast<double>(dn.values()[i]) == doctest::Approx(values[i]).epsilon(1e-5));
    }
    const reals far = {-1e4, 1e4};  // no exponential overflows
    CHECK(ds::ops::preference(b, rewards(far.data(), {2}), pairs_of(one)).mean == 2e4);
    CHECK(ds::ops::preference(b, rewards(far.data(), {2}), pairs_of({})).mean == 0);
    reals zero(2, 7);
    const ds::view<double, ds::host, ds::dyn> to(zero.data(), {2});
    ds::ops::preference_gradient(b, rewards(far.data(), {2}), pairs_of({}), to);
    CHECK((zero[0] == 0 && zero[1] == 0));
    CHECK_ERROR(code::index_range, "pairs[0, 1] is 6", "0 .. 5",
                ds::ops::preference(b, from.vector(), pairs_of({0, 6})));
    CHECK_ERROR(
        code::index_range, "pairs[1, 0] is -1",
        ds::ops::preference_gradient(b, from.vector(), pairs_of({0, 1, -1, 2}), d.vector()));
    CHECK_ERROR(code::shape_mismatch, "preference_gradient: drewards[2]",
                ds::ops::preference_gradient(b, from.vector(), pairs_of(some), to));
    CHECK_ERROR(code::invalid_argument, "centering is -1",
                ds::ops::preference(b, from.vector(), pairs_of(some), {.centering = -1}));
    CHECK_ERROR(code::invalid_argument, "margin is inf",
                ds::ops::preference(b, from.vector(), pairs_of(some), {.margin = infinity}));
    CHECK_ERROR(code::invalid_argument, "scale inf",
                ds::ops::preference_gradient(b, from.vector(), pairs_of(some), d.vector(),
                                             {.scale = infinity}));
  });
  facets("preference", {"forward", "strides", "zero", "errors"});
  facets("preference_gradient", {"forward", "strides", "zero", "errors"});
  support::not_applicable("preference", "gradient");
}

TEST_CASE("uncertainty_weights: formula, gradient, the best s, errors") {
  on_both([](const auto& b) {
    using vector = ds::view<double, ds::host, ds::dyn>;
    reals losses = {0.7, 2.5, 1.1}, s = {0.2, -0.4, 0}, a = {1, 0.5, 1}, w(3), d(3);
    const auto at = [](reals& v) { return vector(v.data(), {3}); };
    const auto total = [&](const reals& where) {
      reals moved = where, unused(3), gradient(3);
      return ds::ops::uncertainty_weights(b, ds::task_inputs{at(losses), at(moved), at(a)},
                                          ds::task_outputs{at(unused), at(gradient)});
    };
    const ds::task_inputs in{at(losses), at(s), at(a)};
    const ds::task_outputs out{at(w), at(d)};
    const double got = ds::ops::uncertainty_weights(b, in, out);
    const double want = std::exp(-.2) * .7 + .5 * std::exp(.4) * 2.5 + 1.1 + (.2 - .4) / 2;
    support::expect_true("uncertainty_weights", "three tasks", std::fabs(got - want) < 1e-15, "no");
    for (std::size_t k = 0; k < 3; ++k) CHECK(w[k] == doctest::Approx(a[k] * std::exp(-s[k])));
    support::expect_gradient("uncertainty_weights", "three tasks",
                             support::check_gradient(total, s, d));
    const reals once = d;
    ds::ops::uncertainty_weights(b, in, out, 2);  // adds
    for (std::size_t k = 0; k < 3; ++k) CHECK(d[k] == doctest::Approx(3 * once[k]));
    for (std::size_t k = 0; k < 3; ++k) s[k] = std::log(2 * a[k] * losses[k]);
    d.assign(3, 0);  // the best s: weight times loss is one half
    ds::ops::uncertainty_weights(b, in, out);
    for (double v : d) CHECK(std::fabs(v) < 1e-15);
    reals apart = {0.2, 9, -0.4, 9, 0, 9}, wide_w(6, 9);
    const vector strided(apart.data(), {3}, {2}), strided_w(wide_w.data(), {3}, {2});
    ds::ops::uncertainty_weights(b, ds::task_inputs{at(losses), strided, ds::none{}},
                                 ds::task_outputs{strided_w, at(d)});
    CHECK((wide_w[1] == 9 && wide_w[2] == doctest::Approx(std::exp(.4))));
    CHECK(ds::ops::uncertainty_weights(
              b, ds::task_inputs{vector(nullptr, {0}), vector(nullptr, {0}), ds::none{}},
              ds::task_outputs{vector(nullptr, {0}), vector(nullptr, {0})}) == 0);
    losses[1] = infinity;
    CHECK_ERROR(code::nonfinite, "losses[1] is inf", ds::ops::uncertainty_weights(b, in, out));
    CHECK_ERROR(
        code::shape_mismatch, "weights[2]",
        ds::ops::uncertainty_weights(b, in, ds::task_outputs{vector(w.data(), {2}), at(d)}));
    CHECK_ERROR(code::invalid_argument, "scale is inf",
                ds::ops::uncertainty_weights(b, in, out, infinity));
  });
  facets("uncertainty_weights", {"forward", "strides", "zero", "errors"});
}
