// SPDX-License-Identifier: Apache-2.0
// prefix_top_k against a sort of every prefix: types, strides, packed sequences, a start, ties and
// NaN; zero sizes and errors.
#include "deepseek/ops/prefix_top_k.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "ops/table.hpp"

#include <algorithm>
#include <numeric>

using namespace table;

namespace {

constexpr const char* op = "prefix_top_k";

// The ids of a query that chooses among scores 0 .. end - 1.
ints chosen(const reals& scores, std::size_t end, std::size_t k) {
  ints order(end);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const double x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
    return std::isnan(y) ? !std::isnan(x) : x > y;
  });
  order.resize(std::min(k, end));
  std::sort(order.begin(), order.end());
  order.resize(k, -1);
  return order;
}

template <class T>
ints run(const auto& b, const reals& scores, std::size_t queries, std::size_t k, layout how,
         const ds::prefix_spec<>& spec) {
  sheet<T> x(scores.size(), 1, how, scores);
  sheet<std::int32_t> ids(queries, k, how);
  const auto column = x.matrix();
  ds::ops::prefix_top_k(
      b, ds::view<T, ds::host, ds::dyn>(column.data(), {column.extent(0)}, {column.stride(0)}),
      ids.matrix(), spec);
  CHECK((x.unchanged() && ids.clean()));
  return ids.values();
}

// rows: scores; columns: k; extra: the start.
template <class T, class B>
ints check(const B& b, const shape_case& c, ds::reach among) {
  const reals scores = drawn<T>(c, c.rows, " scores");
  const std::size_t start = std::min(c.extra, c.rows - 1), queries = c.rows - start;
  const ints got = run<T>(b, scores, queries, c.columns, c.how,
                          {.among = among, .start = static_cast<ds::index_t>(start)});
  ints want;
  for (std::size_t i = 0; i < queries; ++i) {
    const std::size_t end = among == ds::reach::past ? start + i + 1 : c.rows;
    want = joined(want, chosen(scores, end, c.columns));
  }
  support::expect_true(op, where<T>(b, c), got == want, "other positions");
  const auto at = static_cast<std::int32_t>(start);
  const ints first(want.begin(), want.begin() + static_cast<std::ptrdiff_t>(c.columns));
  support::expect_true(
      op, where<T>(b, c),
      run<T>(b, scores, 1, c.columns, c.how, {.among = among, .start_at = {&at, {1}}}) == first,
      "other positions for a start in memory");
  return got;
}

}  // namespace

TEST_CASE("prefix_top_k: every prefix, or the whole") {
  for (const shape_case& c : shape_cases({1, 2, 17, 65, 130}, {1, 3, 10, 40}, {0, 5, 64})) {
    for (const auto among : {ds::reach::past, ds::reach::everywhere}) {
      everywhere(op, c.text(),
                 [&](const auto& b, auto type) { return check<decltype(type)>(b, c, among); });
    }
  }
  facets(op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("prefix_top_k: packed sequences, ties, NaN") {
  const reals scores = {1, 3, 3, std::nan(""), 2, 3, -1, -1, 0, 5};
  const std::int32_t offsets[] = {0, 4, 4, 10};
  on_both([&](const auto& b) {
    const ds::prefix_spec<> packed{.query_offsets = {offsets, {4}}, .key_offsets = {offsets, {4}}};
    const ints got = run<float>(b, scores, 10, 2, layout::contiguous, packed);
    CHECK(got == ints{0, -1, 0, 1, 1, 2, 1, 2, 0, -1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 5});
    const reals first(scores.begin(), scores.begin() + 4);
    CHECK(run<float>(b, first, 4, 4, layout::contiguous, {}) ==
          ints{0, -1, -1, -1, 0, 1, -1, -1, 0, 1, 2, -1, 0, 1, 2, 3});
  });
}

TEST_CASE("prefix_top_k: zero sizes and errors") {
  on_both([](const auto& b) {
    using code = ds::error_code;
    const ds::tensor<float, ds::host, ds::dyn> scores({6}), nothing({0});
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> ids({6, 2}), none_left({0, 2}),
        no_k({6, 0});
    ds::ops::prefix_top_k(b, nothing, none_left, ds::prefix_spec<>{});
    ds::ops::prefix_top_k(b, scores, no_k, ds::prefix_spec<>{});
    ds::ops::prefix_top_k(b, nothing, ids, ds::prefix_spec<>{.among = ds::reach::everywhere});
    CHECK(ids.data()[0] == -1);
    CHECK_ERROR(code::shape_mismatch, "6 queries from position 1", "6 scores",
                ds::ops::prefix_top_k(b, scores, ids, ds::prefix_spec<>{.start = 1}));
    CHECK_ERROR(code::invalid_argument, "start is -1",
                ds::ops::prefix_top_k(b, scores, ids, ds::prefix_spec<>{.start = -1}));
    const std::int32_t one = 1;
    ds::prefix_spec<> moving{.start_at = {&one, {1}}};
    CHECK_ERROR(code::index_range, "6 queries from position 1", "6 scores",
                ds::ops::prefix_top_k(b, scores, ids, moving));
    moving.start = 2;
    moving.among = ds::reach::everywhere;
    CHECK_ERROR(code::invalid_argument, "start_at[1] with start 2",
                ds::ops::prefix_top_k(b, scores, ids, moving));
    const std::int32_t queries[] = {0, 2, 6}, keys[] = {0, 1, 6}, few[] = {0, 6},
                       wrong[] = {0, 3, 5};
    const auto with = [&](ds::sequence_offsets<ds::host> of_queries,
                          ds::sequence_offsets<ds::host> of_keys) {
      ds::ops::prefix_top_k(b, scores, ids,
                            ds::prefix_spec<>{.query_offsets = of_queries, .key_offsets = of_keys});
    };
    CHECK_ERROR(code::shape_mismatch, "2 queries of sequence 0", with({queries, {3}}, {keys, {3}}));
    CHECK_ERROR(code::shape_mismatch, "query_offsets[3]", "key_offsets[2]",
                with({queries, {3}}, {few, {2}}));
    CHECK_ERROR(code::offsets, "query_offsets[2] is 5", with({wrong, {3}}, {queries, {3}}));
  });
  facets(op, {"zero", "errors"});
}
