// SPDX-License-Identifier: Apache-2.0
// distillation against its formula in long double and a golden value, its gradient against
// differences and the formula; hidden logits, ignored rows, aliases, zero sizes, errors.
#include "deepseek/ops/distillation.hpp"

#include "deepseek/backend/cpu/distillation.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;

namespace {

constexpr const char* op = "distillation";
constexpr const char* gradient_op = "distillation_gradient";
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::int32_t skipped = -100;

struct example {
  reals student, teacher;
  ints targets;  // every fifth row is ignored
};
template <class T>
example drawn_example(const shape_case& c) {
  example e{drawn_normal<T>(c, c.size(), " s"), drawn_normal<T>(c, c.size(), " t"),
            drawn_ids(c, c.rows, c.columns, " y")};
  for (std::size_t i = 4; i < c.rows; i += 5) e.targets[i] = skipped;
  for (std::size_t i = 0; i < c.size(); ++i) {  // hidden from both, but never all of a row
    if (i % c.columns % 4 == 3) e.student[i] = e.teacher[i] = -infinity;
    if (i % c.columns % 4 == 3 && e.targets[i / c.columns] == static_cast<int>(i % c.columns)) {
      e.targets[i / c.columns] = 0;
    }
  }
  return e;
}

struct expectation {
  double mean = 0, hard = 0, soft = 0;
  std::size_t counted = 0;
  reals gradient;
};
std::vector<long double> softmax(const double* x, std::size_t n, long double by) {
  std::vector<long double> p;
  long double total = 0;
  for (std::size_t j = 0; j < n; ++j) total += p.emplace_back(std::exp(x[j] * by));
  for (auto& v : p) v /= total;
  return p;
}
expectation expected(const example& e, const shape_case& c, double temperature, double h) {
  expectation out;
  out.gradient.resize(c.size());
  const long double by = 1 / static_cast<long double>(temperature);
  for (const auto y : e.targets) out.counted += y != skipped ? 1 : 0;
  const double n = static_cast<double>(out.counted);
  for (std::size_t i = 0; i < c.rows; ++i) {
    if (e.targets[i] == skipped) continue;
    const double *s = &e.student[i * c.columns], *t = &e.teacher[i * c.columns];
    const auto ps = softmax(s, c.columns, by), pt = softmax(t, c.columns, by);
    const auto plain = softmax(s, c.columns, 1);
    const auto y = static_cast<std::size_t>(e.targets[i]);
    out.hard -= static_cast<double>(std::log(plain[y])) / n;
    for (std::size_t j = 0; j < c.columns; ++j) {
      if (pt[j] > 0) {
        out.soft += temperature * temperature *
                    static_cast<double>(pt[j] * (std::log(pt[j]) - std::log(ps[j]))) / n;
      }
      const long double hot = j == y ? 1 : 0;
      out.gradient[i * c.columns + j] =
          static_cast<double>((h * (plain[j] - hot) + (1 - h) * temperature * (ps[j] - pt[j])) / n);
    }
  }
  out.mean = h * out.hard + (1 - h) * out.soft;
  return out;
}

ds::view<std::int32_t, ds::host, ds::dyn> ids(ints& v) {
  return {v.data(), {static_cast<ds::index_t>(v.size())}};
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  auto e = drawn_example<T>(c);
  const ds::distillation_spec spec{.temperature = 3, .hard = 0.25};
  const auto want = expected(e, c, 3, 0.25);
  sheet<T> s(c.rows, c.columns, c.how, e.student), t(c.rows, c.columns, c.how, e.teacher),
      dx(c.rows, c.columns, c.how);
  const ds::distillation_inputs in{s.matrix(), t.matrix(), ids(e.targets)};
  const auto got = ds::ops::distillation(b, in, spec);
  const double unit = 1024 * (std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24);
  const auto near = [&](double x, double y) {
    return std::fabs(x - y) <= unit * (1 + std::fabs(y));
  };
  support::expect_true(op, where<T>(b, c),
                       near(got.mean, want.mean) && near(got.hard, want.hard) &&
                           near(got.soft, want.soft) &&
                           got.counted == static_cast<ds::index_t>(want.counted),
                       "another value");
  ds::ops::distillation_gradient(b, in, dx.matrix(), {.of = spec});
  auto allowed = support::softmax_limits(type_of<T>, c.columns);
  allowed.relative += 256 * (std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24);
  allowed.c = -1;
  judge(gradient_op, where<T>(b, c), allowed, want.gradient, dx.values(), c.size());
  support::expect_true(op, "memory " + where<T>(b, c), s.unchanged() && t.unchanged() && dx.clean(),
                       "an input or memory around the gradient was written");
  const auto values = dx.values();
  ds::ops::distillation_gradient(b, in, s.matrix(), {.of = spec});
  support::expect_true(gradient_op, "over student " + where<T>(b, c),
                       support::same_bits(s.values(), values), "dstudent over student differs");
  return values;
}

template <class B>
void check_gradient(const B& b, bool labelled) {
  const shape_case c{6, 7, 0, layout::padded};
  reals x = drawn_normal<double>(c, c.size(), " s");
  const reals teacher = drawn_normal<double>(c, c.size(), " t");
  ints targets = drawn_ids(c, c.rows, c.columns, " y");
  targets[2] = skipped;
  sheet<double> t(c.rows, c.columns, c.how, teacher), dx(c.rows, c.columns, c.how);
  const ds::distillation_spec spec{.temperature = 2, .hard = labelled ? 0.3 : 0};
  const auto with = [&](const reals& at, const auto& f) {
    sheet<double> s(c.rows, c.columns, c.how, at);
    if (labelled) return f(ds::distillation_inputs{s.matrix(), t.matrix(), ids(targets)});
    return f(ds::distillation_inputs{s.matrix(), t.matrix(), ds::none{}});
  };
  const auto loss = [&](const reals& at) {
    return 5 * with(at, [&](const auto& in) { return ds::ops::distillation(b, in, spec).mean; });
  };
  with(x, [&](const auto& in) {
    ds::ops::distillation_gradient(b, in, dx.matrix(), {.of = spec, .scale = 5});
    return 0.0;
  });
  support::expect_gradient(gradient_op, c.text(), support::check_gradient(loss, x, dx.values()));
}

}  // namespace

TEST_CASE("distillation: table of cases") {
  for (const shape_case& c : shape_cases({1, 2, 5, 33}, {1, 2, 7, 16, 17, 64, 130})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) {
    check_gradient(b, true);
    check_gradient(b, false);
  });
  facets(op, {"forward", "strides"});
  facets(gradient_op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("distillation: golden value, large logits, zero sizes, errors") {
  on_both([](const auto& b) {
    ds::tensor<double, ds::host, ds::dyn, ds::dyn> s({1, 3}), t({1, 3}), none({0, 3}), d({1, 3});
    d.data()[0] = 7;
    for (ds::index_t j = 0; j < 3; ++j) s.data()[j] = static_cast<double>(j + 1);
    t.data()[0] = 3, t.data()[1] = 1, t.data()[2] = 0;
    const ds::distillation_inputs in{s, t, ds::none{}};
    CHECK(std::fabs(ds::ops::distillation(b, in).mean - 2.073816329) < 6e-10);
    for (ds::index_t j = 0; j < 3; ++j) s.data()[j] += 1e4, t.data()[j] -= 1e4;
    CHECK(std::fabs(ds::ops::distillation(b, in).mean - 2.073816329) < 1e-8);
    const ds::distillation_inputs empty{none, none, ds::none{}};
    CHECK(ds::ops::distillation(b, empty).counted == 0);
    ds::ops::distillation_gradient(b, empty, none);
    ints all = {skipped}, wrong = {3};
    const ds::distillation_inputs ignored{s, t, ids(all)};
    CHECK(ds::ops::distillation(b, ignored).mean == 0);
    ds::ops::distillation_gradient(b, ignored, d);
    for (ds::index_t j = 0; j < 3; ++j) CHECK(d.data()[j] == 0);
    using code = ds::error_code;
    CHECK_ERROR(code::index_range, "targets[0] is 3", "0 .. 2",
                ds::ops::distillation(b, ds::distillation_inputs{s, t, ids(wrong)}));
    CHECK_ERROR(code::shape_mismatch, "distillation: teacher[0, 3]",
                ds::ops::distillation(b, ds::distillation_inputs{s, none, ds::none{}}));
    CHECK_ERROR(code::shape_mismatch, "distillation_gradient: dstudent[0, 3]",
                ds::ops::distillation_gradient(b, in, none));
    CHECK_ERROR(code::invalid_argument, "temperature is 0",
                ds::ops::distillation(b, in, {.temperature = 0}));
    CHECK_ERROR(code::invalid_argument, "hard is 2",
                ds::ops::distillation(b, ignored, {.hard = 2}));
    CHECK_ERROR(code::invalid_argument, "without targets",
                ds::ops::distillation(b, in, {.hard = 0.5}));
    CHECK_ERROR(code::invalid_argument, "scale is inf",
                ds::ops::distillation_gradient(b, in, s, {.scale = infinity}));
  });
  facets(op, {"zero", "errors"});
  facets(gradient_op, {"zero", "errors"});
}
