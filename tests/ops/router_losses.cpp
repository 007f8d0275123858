// SPDX-License-Identifier: Apache-2.0
// router_z_loss, importance_loss and load_loss against the oracle; gradients by differences.
#include "deepseek/ops/importance_loss.hpp"
#include "deepseek/ops/load_loss.hpp"
#include "deepseek/ops/router_z_loss.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/importance_loss.hpp"
#include "deepseek/backend/reference/load_loss.hpp"
#include "deepseek/backend/reference/router_z_loss.hpp"

#include "ops/table.hpp"
#include "oracle/routing.hpp"

#include <algorithm>

using namespace table;

namespace {

template <class T>
std::vector<T> number(double x) {
  return {static_cast<T>(x)};
}
void near(const char* op, const std::string& text, double got, double want) {
  support::expect_true(op, text, std::fabs(got - want) <= 1e-11 * (1 + std::fabs(want)),
                       "the loss is " + std::to_string(got) + ", not " + std::to_string(want));
}
// What a gradient that adds made of twos, in double; nothing else was written.
reals added(sheet<double>& d) {
  CHECK(d.clean());
  reals out = d.values();
  for (double& g : out) g -= 2;
  return out;
}

template <class T, class B>
std::vector<T> check_z(const B& b, const shape_case& c) {
  const reals z = drawn_normal<T>(c, c.size(), " z");
  sheet<T> logits(c.rows, c.columns, c.how, z);
  const double loss = ds::ops::router_z_loss(b, logits.matrix(), 0.5);
  near("router_z_loss", where<T>(b, c), loss, 0.5 * oracle::z_loss(z, c.rows));
  CHECK(logits.unchanged());
  if (std::is_same_v<T, double> && c.size() <= 100) {
    sheet<double> from(c.rows, c.columns, c.how, z),
        d(c.rows, c.columns, c.how, reals(c.size(), 2));
    ds::ops::router_z_loss_backward(b, from.matrix(), d.matrix(), 0.5);
    const auto moved = [&](const reals& at) {
      sheet<double> s(c.rows, c.columns, c.how, at);
      return ds::ops::router_z_loss(b, s.matrix(), 0.5);
    };
    support::expect_gradient("router_z_loss", where<T>(b, c),
                             support::check_gradient(moved, z, added(d)));
  }
  return number<T>(loss);
}

// extra: choices; some of the ids are -1.
template <class T, class B>
std::vector<T> check_importance(const B& b, const shape_case& c) {
  const std::size_t n = c.rows * c.extra;
  support::numbers from(c.text() + " weights");
  const reals w = support::rounded_to<T>(support::draw(support::values::positive, n, from));
  ints ids = drawn_ids(c, n, c.columns + 1, " ids");
  for (std::int32_t& id : ids) id -= 1;
  sheet<T> weights(c.rows, c.extra, c.how, w);
  sheet<std::int32_t> chosen(c.rows, c.extra, c.how, ids);
  const auto experts = static_cast<ds::index_t>(c.columns);
  const auto run = [&](const auto& of) {
    return ds::ops::importance_loss(b, ds::importance_inputs{of, chosen.matrix()}, experts, 0.5);
  };
  const double loss = run(weights.matrix());
  const reals sums = oracle::importance(w, wide(ids), c.columns);
  near("importance_loss", where<T>(b, c), loss, 0.5 * oracle::cv2(sums));
  // With one expert the loss does not depend on the weights.
  const auto busy = std::count_if(sums.begin(), sums.end(), [](double v) { return v > 0; });
  CHECK((weights.unchanged() && chosen.unchanged()));
  if (std::is_same_v<T, double> && n <= 100 && busy > 1) {
    sheet<double> at_w(c.rows, c.extra, c.how, w), d(c.rows, c.extra, c.how, reals(n, 2));
    ds::ops::importance_loss_backward(b, ds::importance_inputs{at_w.matrix(), chosen.matrix()},
                                      d.matrix(), experts, 0.5);
    const auto moved = [&](const reals& at) {
      sheet<double> s(c.rows, c.extra, c.how, at);
      return run(s.matrix());
    };
    support::expect_gradient("importance_loss", where<T>(b, c),
                             support::check_gradient(moved, w, added(d)));
  }
  return number<T>(loss);
}

// Noisy logits no two of which are nearer than 0.1 in a row: no step of a difference passes one.
reals margins(const shape_case& c) {
  support::numbers from(c.text() + " margins");
  reals out(c.size());
  for (std::size_t t = 0; t < c.rows; ++t) {
    for (std::size_t e = 0; e < c.columns; ++e) out[t * c.columns + e] = 0.1 * double(e) - 0.5;
    for (std::size_t e = c.columns; e > 1; --e) {
      std::swap(out[t * c.columns + e - 1], out[t * c.columns + from.below(e)]);
    }
  }
  return out;
}

template <class T, class B>
std::vector<T> check_load(const B& b, const shape_case& c) {
  const auto active = static_cast<ds::index_t>(c.extra);
  const reals z = drawn_normal<T>(c, c.size(), " z"), h = support::rounded_to<T>(margins(c));
  // Deviations from ln 2 on: differences of a steep curve would err.
  reals r = drawn_normal<T>(c, c.size(), " r");
  for (double& v : r) v = std::fabs(v);
  sheet<T> clean(c.rows, c.columns, c.how, z), raw(c.rows, c.columns, c.how, r),
      noisy(c.rows, c.columns, c.how, h);
  const ds::load_views in{clean.matrix(), raw.matrix(), noisy.matrix()};
  const double loss = ds::ops::load_loss(b, in, active, 0.5);
  near("load_loss", where<T>(b, c), loss,
       0.5 * oracle::cv2(oracle::smooth_load(z, r, h, c.rows, c.extra)));
  CHECK((clean.unchanged() && raw.unchanged() && noisy.unchanged()));
  if (std::is_same_v<T, double> && c.size() <= 40) {
    const reals twos(c.size(), 2);
    sheet<double> d0(c.rows, c.columns, c.how, twos), d1(c.rows, c.columns, c.how, twos),
        d2(c.rows, c.columns, c.how, twos);
    ds::ops::load_loss_backward(b, in, ds::load_views{d0.matrix(), d1.matrix(), d2.matrix()},
                                active, 0.5);
    const auto moved = [&](const reals& at) {
      const auto part = [&](std::size_t i) {
        const auto first = at.begin() + static_cast<std::ptrdiff_t>(i * c.size());
        return sheet<double>(c.rows, c.columns, c.how,
                             reals(first, first + static_cast<std::ptrdiff_t>(c.size())));
      };
      auto p0 = part(0), p1 = part(1), p2 = part(2);
      return ds::ops::load_loss(b, ds::load_views{p0.matrix(), p1.matrix(), p2.matrix()}, active,
                                0.5);
    };
    support::expect_gradient(
        "load_loss", where<T>(b, c),
        support::check_gradient(moved, joined(joined(z, r), h),
                                joined(joined(added(d0), added(d1)), added(d2))));
  }
  return number<T>(loss);
}

}  // namespace

TEST_CASE("router losses: values and gradients") {
  for (const shape_case& c : shape_cases({1, 3, 5, 40}, {4, 7, 16}, {1, 3})) {
    everywhere("router_z_loss", c.text(),
               [&](const auto& b, auto zero) { return check_z<decltype(zero)>(b, c); });
    everywhere("importance_loss", c.text(),
               [&](const auto& b, auto zero) { return check_importance<decltype(zero)>(b, c); });
    everywhere("load_loss", c.text(),
               [&](const auto& b, auto zero) { return check_load<decltype(zero)>(b, c); });
  }
  for (const char* op : {"router_z_loss", "importance_loss", "load_loss"}) {
    facets(op, {"forward", "gradient", "strides"});
  }
}

TEST_CASE("router losses: by hand") {
  on_both([](const auto& b) {
    // Importance 3, 1, 0, 0: mean 1, variance 1.5.
    sheet<double> w(2, 2, layout::contiguous, reals{2, 0.5, 1, 0.5});
    sheet<std::int32_t> ids(2, 2, layout::contiguous, reals{0, 1, 0, 1});
    CHECK(ds::ops::importance_loss(b, ds::importance_inputs{w.matrix(), ids.matrix()}, 4, 1) ==
          doctest::Approx(1.5).epsilon(1e-15));
    // Equal logits: lse = ln 4.
    sheet<double> z(3, 4, layout::contiguous, reals(12));
    CHECK(ds::ops::router_z_loss(b, z.matrix(), 1) == doctest::Approx(std::pow(std::log(4.0), 2)));
    sheet<double> far(2, 2, layout::contiguous, reals{1e4, -1e4, -HUGE_VAL, -HUGE_VAL});
    CHECK(ds::ops::router_z_loss(b, far.matrix(), 1) == doctest::Approx(1e8 / 2));
    // Nothing given out, everything active, no noise: finite.
    sheet<std::int32_t> lost(2, 2, layout::contiguous, reals{-1, -1, -1, -1});
    CHECK(ds::ops::importance_loss(b, ds::importance_inputs{w.matrix(), lost.matrix()}, 4, 1) == 0);
    CHECK(ds::ops::load_loss(b, ds::load_views{z.matrix(), z.matrix(), z.matrix()}, 4, 1) == 0);
    // Deviation 0: a chance is 0 or 1. Expert 0 is chosen by all, the other never.
    sheet<double> sure(2, 2, layout::contiguous, reals{1, 0, 1, 0}),
        calm(2, 2, layout::contiguous, reals(4, -1e5)), d(2, 2, layout::contiguous, reals(4));
    const ds::load_views in{sure.matrix(), calm.matrix(), sure.matrix()};
    CHECK(ds::ops::load_loss(b, in, 1, 1) == doctest::Approx(1));
    ds::ops::load_loss_backward(b, in, ds::load_views{d.matrix(), d.matrix(), d.matrix()}, 1, 1);
    for (double g : d.values()) CHECK(g == 0);
  });
}

TEST_CASE("router losses: zero sizes and errors") {
  using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
  using table_of_ids = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
  double data[12] = {};
  std::int32_t numbers[6] = {0, 1, 2, 3, 4, -2};
  on_both([&](const auto& b) {
    using ds::error_code;
    const matrix none(nullptr, {0, 4}), x(data, {3, 4}), w(data, {3, 2}), null(nullptr, {3, 4});
    const table_of_ids no_ids(nullptr, {0, 2}), ids(numbers, {3, 2}), below(numbers + 5, {1, 1});
    CHECK(ds::ops::router_z_loss(b, none, 1) == 0);
    ds::ops::router_z_loss_backward(b, none, none, 1);
    const ds::importance_inputs nothing{matrix(nullptr, {0, 2}), no_ids};
    CHECK(ds::ops::importance_loss(b, nothing, 4, 1) == 0);
    ds::ops::importance_loss_backward(b, nothing, matrix(nullptr, {0, 2}), 4, 1);
    const ds::load_views empty{none, none, none}, full{x, x, x};
    CHECK(ds::ops::load_loss(b, empty, 2, 1) == 0);
    ds::ops::load_loss_backward(b, empty, empty, 2, 1);
    CHECK_ERROR(error_code::invalid_argument, "router_z_loss: logits[3, 4]", "null",
                ds::ops::router_z_loss(b, null, 1));
    CHECK_ERROR(error_code::invalid_argument, "router_z_loss: alpha is inf",
                ds::ops::router_z_loss(b, x, HUGE_VAL));
    CHECK_ERROR(error_code::shape_mismatch, "router_z_loss_backward: dlogits[3, 2]", "expected 4",
                ds::ops::router_z_loss_backward(b, x, w, 1));
    CHECK_ERROR(error_code::index_range, "importance_loss: ids[2, 0] is 4", "0 .. 3",
                ds::ops::importance_loss(b, ds::importance_inputs{w, ids}, 4, 1));
    CHECK_ERROR(
        error_code::index_range, "importance_loss: ids[0, 0] is -2", "(or -1)",
        ds::ops::importance_loss(b, ds::importance_inputs{matrix(data, {1, 1}), below}, 4, 1));
    CHECK_ERROR(error_code::invalid_argument, "importance_loss: experts is 0",
                ds::ops::importance_loss(b, ds::importance_inputs{w, ids}, 0, 1));
    CHECK_ERROR(error_code::shape_mismatch, "importance_loss: weights[3, 4]", "expected 2",
                ds::ops::importance_loss(b, ds::importance_inputs{x, ids}, 4, 1));
    CHECK_ERROR(error_code::invalid_argument, "load_loss: 5 active experts of 4", "1 to 4",
                ds::ops::load_loss(b, full, 5, 1));
    CHECK_ERROR(error_code::shape_mismatch, "load_loss: noisy[3, 2]", "expected 4",
                ds::ops::load_loss(b, ds::load_views{x, x, w}, 2, 1));
    CHECK_ERROR(error_code::shape_mismatch, "load_loss_backward: dnoisy[3, 2]", "expected 4",
                ds::ops::load_loss_backward(b, full, ds::load_views{x, x, w}, 2, 1));
  });
  for (const char* op : {"router_z_loss", "importance_loss", "load_loss"}) {
    facets(op, {"zero", "errors"});
  }
}
