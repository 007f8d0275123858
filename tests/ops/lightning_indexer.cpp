// SPDX-License-Identifier: Apache-2.0
// lightning_indexer against the oracle: sizes around tile edges, strides, types; a row alone,
// packed sequences, wider rows of scores; NaN of hidden keys; zero sizes and errors.
#include "ops/indexer_case.hpp"

#include "deepseek/backend/cpu/lightning_indexer.hpp"
#include "deepseek/pattern/band.hpp"

using namespace indexer_test;

namespace {

constexpr const char* op = "lightning_indexer";

template <class T, class B>
std::vector<T> check(const B& b, const problem& p) {
  const auto x = draw<T>(p);
  arrays<T> a(p, x);
  sheet<T> scores(p.n, p.m, p.how);
  ds::ops::lightning_indexer(b, a.inputs(), scores.matrix(), spec_of<ds::causal>(p));
  const auto want = oracle::indexer_scores(x, shape_of(p), oracle::causal(p.n, p.m));
  const std::string text =
      std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + p.text();
  expect_scores(text, support::gemm_limits(type_of<T>, p.heads * p.d), want,
                support::to_double(scores.values()), p.m);
  support::expect_true(op, "memory " + text, a.unchanged() && scores.clean(),
                       "an input or memory around the scores was written");
  return scores.values();
}

}  // namespace

TEST_CASE("lightning_indexer: table of cases") {
  const std::vector<std::size_t> ns = {1, 2, 3, 7, 33}, ms = {1, 31, 32, 33, 64, 65, 130, 700};
  const std::vector<std::size_t> heads = {1, 2, 5, 12, 13, 64}, widths = {1, 3, 16, 32, 128};
  for (const auto& pick :
       support::pairwise({ns.size(), ms.size(), heads.size(), widths.size(), 4}, 40)) {
    const problem p{ns[pick[0]], ms[pick[1]], heads[pick[2]], widths[pick[3]],
                    static_cast<layout>(pick[4])};
    everywhere(op, p.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, p); });
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("lightning_indexer: a row alone, a chunk, and a wider row of scores") {
  const ds::cpu b({.threads = 2});
  const problem p{90, 90, 3, 20};
  const auto x = draw<float>(p);
  arrays<float> a(p, x);
  sheet<float> whole(90, 90, layout::contiguous), wide(90, 131, layout::padded);
  ds::ops::lightning_indexer(b, a.inputs(), whole.matrix(), spec_of<ds::causal>(p));
  ds::ops::lightning_indexer(b, a.inputs(), wide.matrix(), spec_of<ds::causal>(p));
  const auto all = whole.values(), more = wide.values();
  bool right = true;
  for (std::size_t i = 0; i < 90; ++i) {
    for (std::size_t j = 0; j < 131; ++j) {
      const float want = j < 90 ? all[i * 90 + j] : -std::numeric_limits<float>::infinity();
      right = right && more[i * 131 + j] == want;
    }
  }
  support::expect_true(op, "wide", right, "columns beyond the keys change something");
  for (const ds::index_t first : {0, 1, 50, 89}) {
    for (const ds::index_t count : {1, 40}) {
      if (first + count > 90) continue;
      const auto in = a.inputs();
      sheet<float> part(static_cast<std::size_t>(count), 90, layout::contiguous);
      auto spec = spec_of<ds::causal>(p);
      spec.start = first;
      ds::ops::lightning_indexer(
          b, ds::indexer_inputs{ds::rows(in.q, first, count), in.k, ds::rows(in.w, first, count)},
          part.matrix(), spec);
      const auto at = all.begin() + first * 90;
      support::expect_true(op, support::text("rows from", first, "count", count),
                           support::same_bits(part.values(), {at, at + count * 90}),
                           "rows alone have other bits");
    }
  }
}

TEST_CASE("lightning_indexer: packed sequences equal each alone") {
  on_both([](const auto& b) {
    const problem p{80, 80, 2, 8};
    const auto x = draw<float>(p);
    arrays<float> a(p, x);
    const std::int32_t offsets[] = {0, 5, 5, 70, 80};
    auto spec = spec_of<ds::causal>(p);
    spec.query_offsets = spec.key_offsets = {offsets, {5}};
    sheet<float> packed(80, 65, layout::contiguous);
    const auto in = a.inputs();
    ds::ops::lightning_indexer(b, in, packed.matrix(), spec);
    for (std::size_t s = 0; s < 4; ++s) {
      const ds::index_t first = offsets[s], count = offsets[s + 1] - first;
      sheet<float> alone(static_cast<std::size_t>(count), 65, layout::contiguous);
      ds::ops::lightning_indexer(
          b,
          ds::indexer_inputs{ds::rows(in.q, first, count), ds::rows(in.k, first, count),
                             ds::rows(in.w, first, count)},
          alone.matrix(), spec_of<ds::causal>(p));
      const auto all = packed.values();
      const auto at = all.begin() + first * 65;
      support::expect_true(op, support::text("sequence", s),
                           support::same_bits(alone.values(), {at, at + count * 65}),
                           "a sequence differs from itself alone");
    }
  });
}

TEST_CASE("lightning_indexer: NaN of a hidden key does not matter, of a visible one stays") {
  on_both([](const auto& b) {
    const problem p{40, 70, 3, 16};
    const auto clean = draw<double>(p);
    auto dirty = clean;
    for (std::size_t c = 0; c < p.d; ++c) dirty.k[50 * p.d + c] = std::nan("");
    const auto run = [&](const oracle::attention_inputs& x) {
      arrays<double> a(p, x);
      sheet<double> scores(p.n, p.m, layout::contiguous);
      ds::ops::lightning_indexer(b, a.inputs(), scores.matrix(), spec_of<ds::causal>(p));
      return scores.values();
    };
    const auto without = run(clean), with = run(dirty);
    bool right = true;
    for (std::size_t i = 0; i < p.n; ++i) {
      for (std::size_t j = 0; j < p.m; ++j) {
        const double y = with[i * p.m + j];
        const bool reached = j == 50 && i + 30 >= 50;  // query i is at position i + 30
        right = right && (reached ? std::isnan(y) : y == without[i * p.m + j]);
      }
    }
    support::expect_true(op, "nan", right, "NaN in the wrong places");
  });
}

TEST_CASE("lightning_indexer: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, 2, 3> q({4, 2, 3}), no_q({0, 2, 3});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> k({5, 3}), no_k({0, 3}), w({4, 2}), no_w({0, 2}),
        scores({4, 5}), none({0, 5}), narrow({4, 4}), empty({4, 0}), only({4, 2});
    const ds::attention_spec<ds::causal> spec{};
    ds::ops::lightning_indexer(b, ds::indexer_inputs{no_q, k, no_w}, none, spec);
    ds::ops::lightning_indexer(b, ds::indexer_inputs{q, no_k, w}, empty, spec);
    only.data()[7] = 3;
    ds::ops::lightning_indexer(b, ds::indexer_inputs{q, no_k, w}, only, spec);
    support::expect_true(op, "no keys", std::isinf(only.data()[7]), "a score without a key");
    const auto call = [&](const auto& wrong_k, const auto& wrong_w, auto& out) {
      ds::ops::lightning_indexer(b, ds::indexer_inputs{q, wrong_k, wrong_w}, out, spec);
    };
    using code = ds::error_code;
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer: k[4, 2]", "expected 3",
                call(w, w, scores));
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer: w[0, 2]", "expected 4",
                call(k, no_w, scores));
    CHECK_ERROR(code::shape_mismatch, "scores[4, 4]", "5 keys", call(k, w, narrow));
    const ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {5, 3});
    CHECK_ERROR(code::invalid_argument, "lightning_indexer: k", "null", call(null, w, scores));
    const ds::attention_spec<ds::causal> far{.start = -7};
    CHECK_ERROR(code::invalid_argument, "lightning_indexer: start is -7",
                ds::ops::lightning_indexer(b, ds::indexer_inputs{q, k, w}, scores, far));
    const std::int32_t two[] = {0, 2, 4}, one[] = {0, 5};
    const ds::attention_spec<ds::causal> uneven{.query_offsets = {two, {3}},
                                                .key_offsets = {one, {2}}};
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer: query_offsets[3]",
                ds::ops::lightning_indexer(b, ds::indexer_inputs{q, k, w}, scores, uneven));
  });
  facets(op, {"zero", "errors"});
}
