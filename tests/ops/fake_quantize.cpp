// SPDX-License-Identifier: Apache-2.0
// fake_quantize and its backward against the oracle in double; the gradient also against 4-point
// differences of the function that passes straight through (the rounding's error held fixed); grids
// of 8 and 4 bits, inputs with a zero point, steps shared by all rows, aliases, errors.
#include "deepseek/ops/fake_quantize.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/fake_quantize.hpp"
#include "ops/table.hpp"
#include "oracle/fake.hpp"

using namespace table;

namespace {

constexpr const char* op = "fake_quantize";
constexpr const char* back = "fake_quantize_backward";

ds::fake_grid grid_of(std::size_t kind, std::size_t columns, ds::dtype stored) {
  const auto width = static_cast<ds::index_t>(std::max<std::size_t>(columns, 1));
  if (kind == 0) return {-127, 127, 0, width, stored};
  if (kind == 1) return {-8, 7, 0, 32, stored};
  return {0, 255, 100, width, stored};
}
oracle::fake_case of(const ds::fake_grid& g, const shape_case& c) {
  return {g.least, g.most, g.zero, c.rows, c.columns, static_cast<std::size_t>(g.group)};
}

// Steps that cut off some of the numbers.
template <class T>
reals log_steps(const oracle::fake_case& c, const std::string& name) {
  support::numbers from(name);
  reals out;
  for (std::size_t i = 0; i < c.rows * c.groups(); ++i) {
    out.push_back(std::log(1.5 * (0.8 + 0.4 * from.uniform()) / c.most));
  }
  return support::rounded_to<T>(out);
}

template <class T>
reals steps_of(const ds::fake_grid& g, const reals& logs) {
  reals out;
  for (double x : logs) {
    out.push_back(static_cast<double>(g.step(static_cast<ds::accumulate_t<T>>(x))));
  }
  return out;
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const ds::fake_grid g = grid_of(c.extra, c.columns, ds::dtype::f32);
  const oracle::fake_case o = of(g, c);
  const reals x = drawn<T>(c, c.size(), " x"), dy = drawn_normal<T>(c, c.size(), " dy"),
              logs = log_steps<T>(o, c.text());
  sheet<T> from(c.rows, c.columns, c.how, x), steps(c.rows, o.groups(), c.how, logs),
      to(c.rows, c.columns, c.how), gradient(c.rows, c.columns, c.how, dy),
      dx(c.rows, c.columns, c.how), dlog(c.rows, o.groups(), c.how, reals(logs.size(), 0.5));
  const ds::fake_inputs in{from.matrix(), steps.matrix()};
  ds::ops::fake_quantize(b, in, g, to.matrix());
  ds::ops::fake_quantize_backward(b, in, g, gradient.matrix(),
                                  ds::fake_gradients{dx.matrix(), dlog.matrix()});
  // A quotient at a tie may round to either side in T: such numbers are moved by a step; the oracle
  // divides in T as well.
  auto want = oracle::fake_quantize(o, x, steps_of<T>(g, logs), dy);
  int wrong = 0, decided = 0;
  const auto y = to.values(), d = dx.values();
  std::vector<bool> undecided(logs.size());
  const reals step = steps_of<T>(g, logs);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t at = i / c.columns * o.groups() + i % c.columns / o.group;
    const double v = x[i] / step[at];
    if (std::fabs(std::fabs(v - std::floor(v)) - 0.5) < 1e-4 || std::fabs(v) > 1e6) {
      undecided[at] = true;
      continue;
    }
    ++decided;
    const double limit = std::fabs(want.y[i]) * 2 * ds::unit_roundoff<T> + 1e-300;
    wrong += !(std::fabs(support::to_double(y[i]) - want.y[i]) <= limit);
    wrong += support::to_double(d[i]) != want.dx[i];
  }
  support::expect_true(op, where<T>(b, c), wrong == 0, "other numbers than the oracle's");
  wrong = 0;
  const auto s = dlog.values();
  for (std::size_t at = 0; at < s.size(); ++at) {
    const double scale = 1 + std::fabs(want.dlog_step[at]);
    const double limit = std::max(8 * ds::unit_roundoff<T>, 1e-6 * (type_of<T> != ds::dtype::f64));
    if (!undecided[at]) {
      wrong += !(std::fabs(support::to_double(s[at]) - 0.5 - want.dlog_step[at]) <= limit * scale);
    }
  }
  support::expect_true(back, where<T>(b, c), wrong == 0, "another gradient of the steps");
  support::expect_true(op, "memory " + where<T>(b, c),
                       from.unchanged() && steps.unchanged() && to.clean() && dx.clean() &&
                           dlog.clean() && gradient.unchanged(),
                       "an input or memory around an output was written");
  ds::ops::fake_quantize_backward(b, in, g, gradient.matrix(),
                                  ds::fake_gradients{gradient.matrix(), dlog.matrix()});
  support::expect_true(back, "dx over dy " + where<T>(b, c),
                       support::same_bits(gradient.values(), d), "dx over dy differs");
  return joined(y, s);
}

}  // namespace

TEST_CASE("fake_quantize: table of cases") {
  for (const shape_case& c : shape_cases({0, 1, 2, 9}, {0, 1, 31, 32, 33, 100}, {0, 1, 2})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  facets(op, {"forward", "strides", "zero"});
  facets(back, {"forward", "strides", "zero"});
  support::not_applicable(op, "gradient");
}

// f(x, log s) = (clamp(x / s + c) - z) s with the rounding's error c = rne(x / s) - x / s of where
// the gradient is asked for: what "straight through" differentiates.
TEST_CASE("fake_quantize_backward: differences of the function straight through") {
  const shape_case c{3, 40};
  for (std::size_t kind : {0u, 1u, 2u}) {
    const ds::fake_grid g = grid_of(kind, c.columns, ds::dtype::f64);
    const oracle::fake_case o = of(g, c);
    const reals x = drawn<double>(c, c.size(), " x"), dy = support::loss_weights(c.size());
    const reals logs = log_steps<double>(o, "differences");
    const auto at = [&](std::size_t i) {
      return i / c.columns * o.groups() + i % c.columns / o.group;
    };
    const auto members = [&](std::size_t i) {
      const std::size_t first = i % c.columns / o.group * o.group;
      return static_cast<double>(std::min(c.columns, first + o.group) - first);
    };
    // The gradient of the steps is scaled: so is their move.
    const auto loss = [&](const reals& moved) {
      double sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double s0 = std::exp(logs[at(i)]), v0 = x[i] / s0;
        const double move =
            (moved[x.size() + at(i)] - logs[at(i)]) / std::sqrt(members(i) * g.most);
        const double s = std::exp(logs[at(i)] + move);
        const double here = std::nearbyint(v0) + g.zero;
        double code = moved[i] / s + (std::nearbyint(v0) - v0) + g.zero;
        if (here < g.least || here > g.most) code = here < g.least ? g.least : g.most;
        sum += dy[i] * (code - g.zero) * s;
      }
      return sum;
    };
    sheet<double> from(c.rows, c.columns, c.how, x), steps(c.rows, o.groups(), c.how, logs),
        gradient(c.rows, c.columns, c.how, dy), dx(c.rows, c.columns, c.how),
        dlog(c.rows, o.groups(), c.how, reals(logs.size()));
    ds::ops::fake_quantize_backward(ds::reference{}, ds::fake_inputs{from.matrix(), steps.matrix()},
                                    g, gradient.matrix(),
                                    ds::fake_gradients{dx.matrix(), dlog.matrix()});
    support::expect_gradient(
        back, support::text("grid", kind),
        support::check_gradient(loss, joined(x, logs), joined(dx.values(), dlog.values())));
  }
}

TEST_CASE("fake_quantize: one step for all rows is many equal steps") {
  support::numbers from("shared");
  const ds::fake_grid g{0, 255, 77, 20, ds::dtype::f32};
  ds::tensor<float, ds::host, 5, 20> x, a, b, dx;
  for (ds::index_t i = 0; i < 100; ++i) x.data()[i] = static_cast<float>(from.normal());
  const float log_step = -4;
  float together = 0;
  ds::tensor<float, ds::host, 5, 1> each, apart;
  for (ds::index_t i = 0; i < 5; ++i) each.data()[i] = log_step;
  const ds::view<const float, ds::host, ds::dyn, ds::dyn> one(&log_step, {5, 1}, {0, 1});
  const ds::view<float, ds::host, ds::dyn, ds::dyn> sum(&together, {5, 1}, {0, 1});
  const ds::reference r;
  ds::ops::fake_quantize(r, ds::fake_inputs{x, one}, g, a);
  ds::ops::fake_quantize(r, ds::fake_inputs{x, each}, g, b);
  CHECK(std::memcmp(a.data(), b.data(), 400) == 0);
  ds::ops::fake_quantize_backward(r, ds::fake_inputs{x, one}, g, x, ds::fake_gradients{dx, sum});
  ds::ops::fake_quantize_backward(r, ds::fake_inputs{x, each}, g, x, ds::fake_gradients{dx, apart});
  double total = 0;
  for (ds::index_t i = 0; i < 5; ++i) total += static_cast<double>(apart.data()[i]);
  CHECK(std::fabs(total - static_cast<double>(together)) < 1e-5);
}

TEST_CASE("fake_quantize: errors, and NaN stays") {
  ds::tensor<float, ds::host, 2, 8> x, y;
  ds::tensor<float, ds::host, 2, 1> steps;
  ds::tensor<float, ds::host, 2, 2> more;
  const ds::fake_grid g{-127, 127, 0, 8, ds::dtype::f32};
  on_both([&](const auto& b) {
    CHECK_ERROR(ds::error_code::shape_mismatch, "log_step", "[2, 2]",
                ds::ops::fake_quantize(b, ds::fake_inputs{x, more}, g, y));
    CHECK_ERROR(
        ds::error_code::config, "groups of 0",
        ds::ops::fake_quantize(b, ds::fake_inputs{x, steps}, ds::fake_grid{-8, 7, 0, 0}, y));
    for (float bad : {200.0F, -200.0F, std::nanf("")}) {
      steps.data()[1] = bad;
      y.data()[0] = 3;
      CHECK_ERROR(ds::error_code::nonfinite, "a step is",
                  ds::ops::fake_quantize(b, ds::fake_inputs{x, steps}, g, y));
      CHECK_ERROR(ds::error_code::nonfinite, "fake_quantize_backward", "a step is",
                  ds::ops::fake_quantize_backward(b, ds::fake_inputs{x, steps}, g, y,
                                                  ds::fake_gradients{x, steps}));
      CHECK(y.data()[0] == 3);
      steps.data()[1] = 0;
    }
    x.data()[3] = std::nanf("");
    ds::ops::fake_quantize(b, ds::fake_inputs{x, steps}, g, y);
    CHECK(std::isnan(y.data()[3]));
    CHECK(y.data()[4] == 0);
    x.data()[3] = 0;
  });
  facets(op, {"errors"});
  facets(back, {"errors"});
}
