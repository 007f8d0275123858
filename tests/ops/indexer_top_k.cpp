// SPDX-License-Identifier: Apache-2.0
// indexer_top_k against a stable selection from the oracle's scores: exact on integers, where ties
// abound; as sets within rounding on normal numbers; both orders; fewer keys than asked for,
// queries without keys, NaN; packed sequences, blocks of queries, a query alone.
#include "deepseek/ops/indexer_top_k.hpp"

#include "ops/indexer_case.hpp"

#include "deepseek/backend/cpu/indexer_top_k.hpp"
#include "deepseek/pattern/band.hpp"

#include <algorithm>

using namespace indexer_test;

namespace {

constexpr const char* op = "indexer_top_k";

template <class T, class B, class P>
ints selected(const B& b, const problem& p, const oracle::attention_inputs& x, std::size_t k,
              ds::selection_order order, const ds::attention_spec<P>& spec) {
  arrays<T> a(p, x);
  sheet<std::int32_t> ids(p.n, k, p.how);
  ds::ops::indexer_top_k(b, a.inputs(), ids.matrix(), spec, order);
  support::expect_true(op, "memory " + p.text(), a.unchanged() && ids.clean(),
                       "an input or memory around ids was written");
  return ids.values();
}

// Rows ascending, -1 last.
longs by_position(longs ids, std::size_t k) {
  for (auto row = ids.begin(); row != ids.end(); row += static_cast<std::ptrdiff_t>(k)) {
    std::sort(row, row + static_cast<std::ptrdiff_t>(k), [](std::int64_t a, std::int64_t b) {
      return static_cast<std::uint64_t>(a) < static_cast<std::uint64_t>(b);
    });
  }
  return ids;
}

oracle::attention_inputs whole_numbers(const problem& p) {
  support::numbers from(p.text() + " whole");
  const auto drawn = [&](std::size_t n, std::int64_t most) {
    reals x(n);
    for (double& e : x) e = static_cast<double>(from.between(-most, most));
    return x;
  };
  return {drawn(p.n * p.heads * p.d, 2), drawn(p.m * p.d, 2), drawn(p.n * p.heads, 2)};
}

template <class T, class B>
ints check(const B& b, const problem& p, std::size_t k) {
  const auto x = whole_numbers(p);
  const auto scores = oracle::indexer_scores(x, shape_of(p), oracle::causal(p.n, p.m)).scores;
  const longs want = oracle::indexer_selection(scores, p.n, p.m, k);
  const auto spec = spec_of<ds::causal>(p);
  const ints best = selected<T>(b, p, x, k, ds::selection_order::by_score, spec);
  const ints sorted = selected<T>(b, p, x, k, ds::selection_order::by_position, spec);
  const std::string text = std::string(b.name()) + support::text(" k", k) + " " + p.text();
  support::expect_true(op, text, wide(best) == want, "not the oracle's keys, best first");
  support::expect_true(op, "sorted " + text, wide(sorted) == by_position(want, k),
                       "not the oracle's keys in order");
  return joined(best, sorted);
}

}  // namespace

TEST_CASE("indexer_top_k: whole numbers, exactly") {
  const std::vector<std::size_t> ns = {1, 2, 9, 33}, ms = {1, 7, 33, 64, 200}, heads = {1, 4, 13},
                                 widths = {1, 8, 16}, ks = {1, 2, 7, 16, 17, 64, 200, 300};
  for (const auto& pick :
       support::pairwise({ns.size(), ms.size(), heads.size(), widths.size(), 4, ks.size()}, 60)) {
    const problem p{
        ns[pick[0]], ms[pick[1]], heads[pick[2]], widths[pick[3]], static_cast<layout>(pick[4]),
        0.5};
    everywhere(op, p.text(),
               [&](const auto& b, auto type) { return check<decltype(type)>(b, p, ks[pick[5]]); });
  }
  facets(op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("indexer_top_k: normal numbers select what the scores of the op say") {
  on_both([](const auto& b) {
    const problem p{300, 300, 3, 16};  // more than one block of queries
    const auto x = draw<float>(p);
    arrays<float> a(p, x);
    sheet<float> scores(p.n, p.m, layout::contiguous);
    ds::ops::lightning_indexer(b, a.inputs(), scores.matrix(), spec_of<ds::causal>(p));
    const longs want = oracle::indexer_selection(support::to_double(scores.values()), p.n, p.m, 40);
    const auto got =
        selected<float>(b, p, x, 40, ds::selection_order::by_score, spec_of<ds::causal>(p));
    support::expect_true(op, "own scores", wide(got) == want, "not the best of the op's scores");
    for (const ds::index_t i : {0, 10, 299}) {
      const auto in = a.inputs();
      sheet<std::int32_t> ids(1, 40, layout::contiguous);
      auto spec = spec_of<ds::causal>(p);
      spec.start = i;
      ds::ops::indexer_top_k(b,
                             ds::indexer_inputs{ds::rows(in.q, i, 1), in.k, ds::rows(in.w, i, 1)},
                             ids.matrix(), spec, ds::selection_order::by_score);
      const auto at = got.begin() + i * 40;
      support::expect_true(op, support::text("query alone", i), ids.values() == ints(at, at + 40),
                           "a query alone selects other keys");
    }
  });
}

TEST_CASE("indexer_top_k: queries before the keys, NaN scores, sequences") {
  on_both([](const auto& b) {
    const problem early{6, 4, 2, 3};  // two queries come before every key
    const auto x = whole_numbers(early);
    const auto ids = selected<double>(b, early, x, 3, ds::selection_order::by_position,
                                      spec_of<ds::causal>(early));
    support::expect_true(op, "no keys", ints(ids.begin(), ids.begin() + 6) == ints(6, -1),
                         "a query without keys selects one");
    const problem p{1, 5, 1, 2, layout::contiguous, 1};
    const oracle::attention_inputs odd{
        {1, 0}, {1, 0, std::nan(""), 0, 3, 0, std::nan(""), 0, 2, 0}, {1}};
    const auto with_nan =
        selected<float>(b, p, odd, 4, ds::selection_order::by_score, spec_of<ds::causal>(p));
    support::expect_true(op, "nan", with_nan == ints{2, 4, 0, 1}, "NaN does not come last");

    const problem two{30, 30, 2, 4};
    const auto y = whole_numbers(two);
    const std::int32_t offsets[] = {0, 0, 12, 30};
    auto spec = spec_of<ds::causal>(two);
    spec.query_offsets = spec.key_offsets = {offsets, {4}};
    const auto packed = selected<float>(b, two, y, 5, ds::selection_order::by_position, spec);
    arrays<float> a(two, y);
    const auto in = a.inputs();
    sheet<std::int32_t> alone(18, 5, layout::contiguous);
    ds::ops::indexer_top_k(
        b,
        ds::indexer_inputs{ds::rows(in.q, 12, 18), ds::rows(in.k, 12, 18), ds::rows(in.w, 12, 18)},
        alone.matrix(), spec_of<ds::causal>(two), ds::selection_order::by_position);
    support::expect_true(op, "sequences", ints(packed.begin() + 60, packed.end()) == alone.values(),
                         "a sequence selects other keys than alone");
  });
}

TEST_CASE("indexer_top_k: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, 2, 3> q({4, 2, 3}), no_q({0, 2, 3});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> k({5, 3}), no_k({0, 3}), w({4, 2}), no_w({0, 2});
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> ids({4, 3}), no_ids({0, 3}),
        nothing({4, 0});
    const ds::attention_spec<ds::causal> spec{};
    const auto call = [&](const auto& queries, const auto& keys, const auto& weights, auto& to) {
      ds::ops::indexer_top_k(b, ds::indexer_inputs{queries, keys, weights}, to, spec,
                             ds::selection_order::by_score);
    };
    call(no_q, k, no_w, no_ids);
    call(q, k, w, nothing);
    call(q, no_k, w, ids);
    support::expect_true(op, "no keys at all",
                         std::all_of(ids.data(), ids.data() + 12, [](auto i) { return i == -1; }),
                         "an id without a key");
    using code = ds::error_code;
    CHECK_ERROR(code::shape_mismatch, "indexer_top_k: ids[0, 3]", "expected 4",
                call(q, k, w, no_ids));
    CHECK_ERROR(code::shape_mismatch, "k[4, 2]", call(q, w, w, ids));
    const ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {4, 2});
    CHECK_ERROR(code::invalid_argument, "w[4, 2]", "null", call(q, k, null, ids));
  });
  facets(op, {"zero", "errors"});
}
