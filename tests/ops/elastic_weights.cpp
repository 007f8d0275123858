// SPDX-License-Identifier: Apache-2.0
// elastic_penalty, elastic_gradient, fisher_update, apply_mask and n_of_m_mask against loops in
// double: golden value, gradient by differences, types, strides, errors.
#include "deepseek/ops/elastic_weights.hpp"
#include "deepseek/ops/apply_mask.hpp"

#include "deepseek/backend/reference/apply_mask.hpp"
#include "deepseek/backend/reference/elastic_weights.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;
using code = ds::error_code;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

template <class T, class B>
std::vector<T> check_elastic(const B& b, const shape_case& c) {
  const reals w = drawn_normal<T>(c, c.size(), " w"), a = drawn_normal<T>(c, c.size(), " a");
  reals f = drawn_normal<T>(c, c.size(), " f"), d = drawn_normal<T>(c, c.size(), " d");
  for (double& v : f) v = std::fabs(v);
  reals gradient, fisher;
  double penalty = 0;
  for (std::size_t i = 0; i < c.size(); ++i) {
    penalty += 0.75 * f[i] * (w[i] - a[i]) * (w[i] - a[i]);
    gradient.push_back(d[i] + 0.5 * 1.5 * f[i] * (w[i] - a[i]));
    fisher.push_back(0.9 * f[i] + 0.25 * d[i] * d[i]);
  }
  sheet<T> ws(c.rows, c.columns, c.how, w), as(c.rows, c.columns, c.how, a),
      fs(c.rows, c.columns, c.how, f), dx(c.rows, c.columns, c.how, d);
  const ds::elastic_inputs in{ws.matrix(), as.matrix(), fs.matrix()};
  const double got = ds::ops::elastic_penalty(b, in, 1.5);
  support::expect_true("elastic_penalty", where<T>(b, c),
                       std::fabs(got - penalty) <= 1e-12 * (1 + penalty), "another value");
  sheet<T> g(c.rows, c.columns, c.how, d);
  ds::ops::elastic_gradient(b, in, dx.matrix(), {.lambda = 1.5, .factor = 0.5});
  auto allowed = support::gemm_limits(type_of<T>, 4);
  allowed.c = -1;
  judge("elastic_gradient", where<T>(b, c), allowed, gradient, dx.values(), c.size());
  ds::ops::fisher_update(b, g.matrix(), fs.matrix(), {.decay = 0.9, .factor = 0.25});
  judge("fisher_update", where<T>(b, c), allowed, fisher, fs.values(), c.size());
  support::expect_true(
      "elastic_gradient", "memory " + where<T>(b, c),
      ws.unchanged() && as.unchanged() && g.unchanged() && dx.clean() && fs.clean(),
      "an input or memory around an output was written");
  return joined(dx.values(), fs.values());
}

template <class T, class B>
std::vector<T> check_masks(const B& b, const shape_case& c) {
  const reals w = drawn<T>(c, c.size(), " w");
  sheet<T> ws(c.rows, c.columns, c.how, w);
  sheet<std::uint8_t> mask(c.rows, c.columns, c.how);
  ds::ops::n_of_m_mask(b, ws.matrix(), mask.matrix(), {.n = 2, .m = 4});
  CHECK((ws.unchanged() && mask.clean()));
  const auto kept = mask.values();
  bool right = true;
  for (std::size_t first = 0; first < c.size(); first += 4) {  // c.columns is a multiple of 4
    std::vector<std::size_t> order = {first, first + 1, first + 2, first + 3};
    std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
      return std::fabs(w[i]) > std::fabs(w[j]);
    });
    for (std::size_t i = 0; i < 4; ++i) right = right && kept[order[i]] == (i < 2 ? 1 : 0);
  }
  support::expect_true("n_of_m_mask", where<T>(b, c), right, "not the two largest of four");
  ds::ops::apply_mask(b, mask.matrix(), ws.matrix());
  const auto got = ws.values();
  right = ws.clean();
  for (std::size_t i = 0; i < c.size(); ++i) {
    right = right && support::to_double(got[i]) == (kept[i] == 0 ? 0.0 : w[i]);
  }
  support::expect_true("apply_mask", where<T>(b, c), right, "not w under the mask");
  return got;
}

}  // namespace

TEST_CASE("elastic weights: table of cases, golden value, gradient by differences") {
  for (const shape_case& c : shape_cases({1, 2, 5, 33}, {1, 7, 16, 65})) {
    everywhere("elastic_gradient", c.text(),
               [&](const auto& b, auto type) { return check_elastic<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) {
    using vector = ds::view<const double, ds::host, ds::dyn>;
    const reals w = {1.1, 2.2}, a = {1, 2}, f = {.3, .1};
    const ds::elastic_inputs in{vector(w.data(), {2}), vector(a.data(), {2}),
                                vector(f.data(), {2})};
    CHECK(std::fabs(ds::ops::elastic_penalty(b, in, 2) - .007) < 1e-15);
    reals g(2);
    ds::ops::elastic_gradient(b, in, ds::view<double, ds::host, ds::dyn>(g.data(), {2}),
                              {.lambda = 2});
    const auto loss = [&](const reals& at) {
      return ds::ops::elastic_penalty(
          b, ds::elastic_inputs{vector(at.data(), {2}), in.anchor, in.fisher}, 2);
    };
    support::expect_gradient("elastic_gradient", "golden", support::check_gradient(loss, w, g));
  });
  facets("elastic_penalty", {"forward", "strides"});
  facets("elastic_gradient", {"forward", "strides"});
  facets("fisher_update", {"forward", "strides"});
  support::not_applicable("elastic_penalty", "gradient");
  support::not_applicable("fisher_update", "gradient");
}

TEST_CASE("masks: table of cases, ties and NaN") {
  for (const shape_case& c : shape_cases({1, 2, 5, 33}, {4, 8, 64})) {
    everywhere("apply_mask", c.text(),
               [&](const auto& b, auto type) { return check_masks<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) {
    std::vector<float> w = {1, -1, 1, 1, 0, std::nanf(""), 3, -4};
    std::vector<std::uint8_t> m(8);
    const ds::view<float, ds::host, ds::dyn, ds::dyn> wv(w.data(), {1, 8});
    const ds::view<std::uint8_t, ds::host, ds::dyn, ds::dyn> mv(m.data(), {1, 8});
    ds::ops::n_of_m_mask(b, wv, mv);
    CHECK(m == std::vector<std::uint8_t>{1, 1, 0, 0, 0, 1, 0, 1});
    ds::ops::n_of_m_mask(b, wv, mv, {.n = 0, .m = 8});
    ds::ops::apply_mask(b, mv, wv);
    for (float v : w) CHECK(v == 0);
  });
  facets("apply_mask", {"forward", "strides"});
  facets("n_of_m_mask", {"forward", "strides"});
  for (const char* op : {"apply_mask", "n_of_m_mask"}) support::not_applicable(op, "gradient");
}

TEST_CASE("elastic weights and masks: zero sizes, errors") {
  on_both([](const auto& b) {
    ds::tensor<double, ds::host, ds::dyn, ds::dyn> w({2, 4}), none({0, 4}), other({2, 3});
    ds::tensor<std::uint8_t, ds::host, ds::dyn, ds::dyn> mask({2, 4}), no_mask({0, 4}), odd({2, 3});
    const ds::elastic_inputs empty{none, none, none}, in{w, w, w};
    CHECK(ds::ops::elastic_penalty(b, empty) == 0);
    ds::ops::elastic_gradient(b, empty, none);
    ds::ops::fisher_update(b, none, none);
    ds::ops::apply_mask(b, no_mask, none);
    ds::ops::n_of_m_mask(b, none, no_mask);
    CHECK_ERROR(code::shape_mismatch, "elastic_weights: anchor[2, 3]",
                ds::ops::elastic_penalty(b, ds::elastic_inputs{w, other, w}));
    CHECK_ERROR(code::shape_mismatch, "elastic_gradient: dw[2, 3]",
                ds::ops::elastic_gradient(b, in, other));
    CHECK_ERROR(code::invalid_argument, "lambda is -1", ds::ops::elastic_penalty(b, in, -1));
    CHECK_ERROR(code::invalid_argument, "factor inf",
                ds::ops::elastic_gradient(b, in, w, {.factor = infinity}));
    CHECK_ERROR(code::shape_mismatch, "fisher_update: g[2, 3]",
                ds::ops::fisher_update(b, other, w));
    CHECK_ERROR(code::invalid_argument, "decay is -1",
                ds::ops::fisher_update(b, w, w, {.decay = -1}));
    CHECK_ERROR(code::shape_mismatch, "apply_mask: mask[2, 3]", ds::ops::apply_mask(b, odd, w));
    CHECK_ERROR(code::shape_mismatch, "3 columns are no multiple of 4",
                ds::ops::n_of_m_mask(b, other, odd));
    CHECK_ERROR(code::invalid_argument, "5 of 4", ds::ops::n_of_m_mask(b, w, mask, {.n = 5}));
  });
  for (const char* op :
       {"elastic_penalty", "elastic_gradient", "fisher_update", "apply_mask", "n_of_m_mask"}) {
    facets(op, {"zero", "errors"});
  }
}
