// SPDX-License-Identifier: Apache-2.0
// top_k against the oracle, bit by bit: ties, NaN, infinities, short and long answers; its
// backward.
#include "deepseek/ops/top_k.hpp"

#include "deepseek/backend/cpu/top_k.hpp"

#include "ops/table.hpp"
#include "oracle/top_k.hpp"

#include <limits>

using namespace table;

namespace {

constexpr const char* op = "top_k";

// The case's values with NaN and infinities sprinkled in where there is room.
template <class T>
reals drawn_scores(const shape_case& c) {
  reals x = drawn<T>(c, c.size(), " x");
  support::numbers from(c.text() + " special");
  if (c.columns < 7) return x;
  for (double& e : x) {
    const std::size_t die = from.below(40);
    if (die == 0) e = std::numeric_limits<double>::quiet_NaN();
    if (die == 1) e = std::numeric_limits<double>::infinity();
    if (die == 2) e = -std::numeric_limits<double>::infinity();
  }
  return x;
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const std::size_t k = std::min(c.extra, c.columns);
  const reals x = drawn_scores<T>(c);
  const auto want = oracle::top_k(x, c.rows, c.columns, k);
  sheet<T> from(c.rows, c.columns, c.how, x), values(c.rows, k, c.how);
  sheet<std::int32_t> ids(c.rows, k, c.how);
  ds::ops::top_k(b, from.matrix(), values.matrix(), ids.matrix());
  const ints got = ids.values();
  bool right = wide(got) == want.ids && from.unchanged() && values.clean() && ids.clean();
  const auto best = values.values();
  for (std::size_t i = 0; i < best.size(); ++i) {
    const double v = support::to_double(best[i]), w = want.values[i];
    right = right && (v == w || (std::isnan(v) && std::isnan(w)));
  }
  support::expect_true(op, where<T>(b, c), right, "not the oracle's ids and values");

  const reals dv = drawn<T>(c, c.rows * k, " dv");
  reals dx(c.size(), 0.0);
  for (std::size_t i = 0; i < dv.size(); ++i) {
    dx[i / k * c.columns + static_cast<std::size_t>(got[i])] = dv[i];
  }
  sheet<T> dvalues(c.rows, k, c.how, dv), out(c.rows, c.columns, c.how);
  ds::ops::top_k_backward(b, ids.matrix(), dvalues.matrix(), out.matrix());
  judge(op, "gradient " + where<T>(b, c), support::exact(type_of<T>), dx, out.values(), c.columns);
  support::expect_true(op, "memory " + where<T>(b, c), dvalues.unchanged() && out.clean(),
                       "an input or memory around an output was written");
  return joined(best, out.values());
}

template <class B>
void check_gradient(const B& b) {
  const shape_case c{4, 9, 3, layout::padded};
  const reals x = drawn<double>(c, c.size(), " x"), weights = support::loss_weights(12);
  sheet<std::int32_t> ids(4, 3, c.how);
  const auto loss = [&](const reals& moved) {
    sheet<double> from(4, 9, c.how, moved), values(4, 3, c.how);
    ds::ops::top_k(b, from.matrix(), values.matrix(), ids.matrix());
    return support::weighted_sum(weights, values.values());
  };
  loss(x);
  sheet<double> dv(4, 3, c.how, weights), dx(4, 9, c.how);
  ds::ops::top_k_backward(b, ids.matrix(), dv.matrix(), dx.matrix());
  support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
}

}  // namespace

TEST_CASE("top_k: table of cases") {
  for (const shape_case& c : shape_cases({1, 2, 9, 64, 129}, {1, 2, 7, 8, 16, 33, 64, 255},
                                         {1, 2, 3, 8, 15, 16, 17, 33, 300})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) { check_gradient(b); });
  facets(op, {"forward", "gradient", "strides"});
}

TEST_CASE("top_k: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({2, 3}), v({2, 3}), none({0, 3}),
        nothing({2, 0}), more({2, 4}), dx({2, 3});
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> ids({2, 3}), no_ids({0, 3}), nil({2, 0}),
        ids4({2, 4});
    dx.data()[5] = 3;
    ds::ops::top_k(b, none, none, no_ids);
    ds::ops::top_k(b, x, nothing, nil);
    ds::ops::top_k_backward(b, nil, nothing, dx);
    support::expect_true(op, "zero", dx.data()[5] == 0, "k = 0 does not give zeros");
    CHECK_ERROR(ds::error_code::invalid_argument, "top_k: k is 4", "x[2, 3]",
                ds::ops::top_k(b, x, more, ids4));
    CHECK_ERROR(ds::error_code::shape_mismatch, "top_k: ids[2, 4]", "expected 3",
                ds::ops::top_k(b, x, v, ids4));
    ids.data()[4] = 3;
    dx.data()[0] = 9;
    CHECK_ERROR(ds::error_code::index_range, "top_k_backward: ids[1, 1] is 3", "0 .. 2",
                ds::ops::top_k_backward(b, ids, v, dx));
    CHECK(dx.data()[0] == 9);
  });
  facets(op, {"zero", "errors"});
}
