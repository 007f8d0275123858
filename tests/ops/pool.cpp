// SPDX-License-Identifier: Apache-2.0
// pool and its gradient against the oracle: first, mean, last; long, short and single sequences,
// no offsets, strides; a sequence alone has the bits of the packed one.
#include "deepseek/ops/pool.hpp"

#include "deepseek/backend/cpu/pool.hpp"

#include "ops/table.hpp"
#include "oracle/pool.hpp"

using namespace table;

namespace {

constexpr const char* op = "pool";
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

ids view_of(const ints& v) {
  return {v.data(), {static_cast<ds::index_t>(v.size())}};
}

template <class T, class B>
std::vector<T> check(const B& b, const ints& offsets, const shape_case& c) {
  const std::size_t sequences = offsets.size() - 1;
  const reals x = drawn<T>(c, c.size(), " x");
  const reals dy = drawn_normal<T>(c, sequences * c.columns, " dy");
  std::vector<T> all;
  for (const auto how : {ds::pooled_row::first, ds::pooled_row::mean, ds::pooled_row::last}) {
    const auto same = static_cast<oracle::pooled>(how);
    sheet<T> from(c.rows, c.columns, c.how, x), to(sequences, c.columns, c.how);
    ds::ops::pool(b, from.matrix(), view_of(offsets), how, to.matrix());
    reals size = x;
    for (double& e : size) e = std::fabs(e);
    const std::string text = where<T>(b, c) + support::text(" how", static_cast<int>(how));
    judge(op, text, support::gemm_limits(type_of<T>, c.rows),
          oracle::pool(x, offsets, same, c.columns), to.values(), c.columns,
          oracle::pool(size, offsets, same, c.columns));
    sheet<T> grad(sequences, c.columns, c.how, dy), dx(c.rows, c.columns, c.how);
    ds::ops::pool_backward(b, grad.matrix(), view_of(offsets), how, dx.matrix());
    judge(op, "gradient " + text, support::elementwise_limits(type_of<T>, 2),
          oracle::pool_backward(dy, offsets, same, c.columns), dx.values(), c.columns);
    support::expect_true(op, "memory " + text,
                         from.unchanged() && to.clean() && grad.unchanged() && dx.clean(),
                         "an input or memory around an output was written");
    all = joined(all, joined(to.values(), dx.values()));
  }
  return all;
}

}  // namespace

TEST_CASE("pool: table of cases") {
  const ints table[] = {{0, 1}, {0, 9}, {0, 3, 4, 70}, {0, 1, 2, 3, 4, 5, 40, 41, 129}};
  for (const ints& offsets : table) {
    const auto rows = static_cast<std::size_t>(offsets.back());
    for (const shape_case& c : shape_cases({rows}, {1, 5, 64})) {
      everywhere(op, c.text(),
                 [&](const auto& b, auto type) { return check<decltype(type)>(b, offsets, c); });
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("pool: the gradient by differences; no offsets are one sequence") {
  on_both([](const auto& b) {
    const ints offsets{0, 4, 5, 9};
    const shape_case c{9, 3};
    const reals x = drawn<double>(c, c.size(), " x"), weights = support::loss_weights(9);
    for (const auto how : {ds::pooled_row::first, ds::pooled_row::mean, ds::pooled_row::last}) {
      const auto loss = [&](const reals& moved) {
        sheet<double> from(9, 3, c.how, moved), to(3, 3, c.how);
        ds::ops::pool(b, from.matrix(), view_of(offsets), how, to.matrix());
        return support::weighted_sum(weights, to.values());
      };
      sheet<double> dy(3, 3, c.how, weights), dx(9, 3, c.how), one(1, 3, c.how), same(1, 3, c.how);
      ds::ops::pool_backward(b, dy.matrix(), view_of(offsets), how, dx.matrix());
      support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
      sheet<double> from(9, 3, c.how, x);
      ds::ops::pool(b, from.matrix(), view_of({0, 9}), how, one.matrix());
      ds::ops::pool(b, from.matrix(), ids{}, how, same.matrix());
      CHECK(support::same_bits(one.values(), same.values()));
    }
  });
}

TEST_CASE("pool: zero sizes and errors") {
  on_both([](const auto& b) {
    float data[32] = {};
    using flat = ds::view<float, ds::host, ds::dyn, ds::dyn>;
    const auto mean = ds::pooled_row::mean;
    ds::ops::pool(b, flat(data, {0, 4}), ids{}, mean, flat(data, {0, 4}));
    ds::ops::pool_backward(b, flat(data, {0, 4}), ids{}, mean, flat(data, {0, 4}));
    ds::ops::pool(b, flat(data, {0, 4}), view_of({0}), mean, flat(data, {0, 4}));
    const flat x(data, {4, 2}), y(data + 8, {2, 2});
    CHECK_ERROR(ds::error_code::offsets, "pool: offsets[2] is 4", "sequence 1 has no rows",
                ds::ops::pool(b, x, view_of({0, 4, 4}), mean, y));
    CHECK_ERROR(ds::error_code::offsets, "pool: offsets[2] is 3", "4 rows",
                ds::ops::pool(b, x, view_of({0, 2, 3}), mean, y));
    CHECK_ERROR(ds::error_code::offsets, "pool_backward: offsets", "less than",
                ds::ops::pool_backward(b, y, view_of({0, 5, 4}), mean, x));
    CHECK_ERROR(ds::error_code::shape_mismatch, "of 3 sequences", "y[2, 2]", "pass y[3, 2]",
                ds::ops::pool(b, x, view_of({0, 1, 2, 4}), mean, y));
    CHECK_ERROR(ds::error_code::invalid_argument, "pool", "null",
                ds::ops::pool(b, flat(nullptr, {4, 2}), view_of({0, 1, 4}), mean, y));
  });
  facets(op, {"zero", "errors"});
}
