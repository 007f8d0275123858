// SPDX-License-Identifier: Apache-2.0
// attention at its limits: NaN where it must not matter and where it must stay, queries that see
// nothing, zero sizes, and what is refused.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"

using namespace attention_test;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

template <class T, class B, class P>
std::vector<std::vector<T>> outcome(const B& b, const problem& p, const P& pattern, const data& x) {
  arrays<T> a(p, x);
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  return results(a, wanted::gradients);
}

// Rows of x[rows, heads * width] set to a value.
void set_rows(std::vector<double>& x, index_t width, std::initializer_list<index_t> rows,
              double to) {
  for (index_t r : rows) std::fill_n(x.begin() + r * width, width, to);
}

// Keys 3, 4 and those from 90 on are seen by nobody: queries are 10 .. 79, local<5>.
template <class T, class B>
void poisoned_keys(const B& b, const std::string& where) {
  const problem p{.n = 70, .m = 120, .h = 2, .hk = 1, .d = 16, .dv = 20, .start = 10};
  for (double poison : {nan, infinity}) {
    data clean = draw<T>(p, "poison"), dirty = clean;
    for (index_t row : {3, 4, 90, 101, 119}) {
      for (auto* x : {&clean.k, &clean.v}) set_rows(*x, x == &clean.k ? p.d : p.dv, {row}, 0);
      for (auto* x : {&dirty.k, &dirty.v}) set_rows(*x, x == &dirty.k ? p.d : p.dv, {row}, poison);
    }
    support::expect_true(
        "attention", where + support::text(" keys", poison),
        same(outcome<T>(b, p, local<5>{}, clean), outcome<T>(b, p, local<5>{}, dirty)),
        "a masked key changed the result");
  }
}

// A NaN of one token reaches those that see it and no other.
template <class T, class B>
void spreading(const B& b, const std::string& where) {
  const problem p{.n = 100, .m = 100, .h = 2, .hk = 2, .d = 8, .dv = 8};
  const data clean = draw<T>(p, "spreading");
  const auto before = outcome<T>(b, p, causal{}, clean);
  constexpr index_t at = 50;
  const auto reached = [&](const std::vector<T>& x, index_t width, index_t first, index_t last) {
    for (index_t i = 0; i < p.n * width; ++i) {
      const bool inside = i / width >= first && i / width < last;
      if (std::isnan(static_cast<double>(x[static_cast<std::size_t>(i)])) != inside) return false;
    }
    return true;
  };
  data v = clean, q = clean;
  set_rows(v.v, p.hk * p.dv, {at}, nan);
  set_rows(q.q, p.h * p.d, {at}, nan);
  const auto from_v = outcome<T>(b, p, causal{}, v), from_q = outcome<T>(b, p, causal{}, q);
  const auto expect = [&](const char* what, bool holds) {
    support::expect_true("attention", where + " " + what, holds, "NaN in the wrong places");
  };
  expect("v to o", reached(from_v[0], p.h * p.dv, at, p.n));
  expect("v not to lse", support::same_bits(from_v[1], before[1]));
  expect("q to o", reached(from_q[0], p.h * p.dv, at, at + 1));
  expect("q to lse", reached(from_q[1], p.h, at, at + 1));
  expect("q to dq", reached(from_q[2], p.h * p.d, at, at + 1));
  expect("q to dk", reached(from_q[3], p.hk * p.d, 0, at + 1));
  expect("q to dv", reached(from_q[4], p.hk * p.dv, 0, at + 1));
}

template <class B>
void nothing_visible(const B& b, const std::string& where) {
  // 9 queries, 4 keys, aligned at the end: the first 5 see nothing.
  const problem p{.n = 9, .m = 4, .h = 2, .hk = 1, .d = 4, .dv = 3};
  data x = draw<float>(p, "nothing");
  set_rows(x.q, p.h * p.d, {0, 2}, nan);
  set_rows(x.g, p.h * p.dv, {1, 2}, nan);
  const auto r = outcome<float>(b, p, causal{}, x);
  bool holds = true;
  for (std::size_t i = 0; i < 5 * 2; ++i) {
    holds = holds && r[1][i] == -std::numeric_limits<float>::infinity();
    for (std::size_t c = 0; c < 3; ++c) holds = holds && r[0][i * 3 + c] == 0;
    for (std::size_t c = 0; c < 4; ++c) holds = holds && r[2][i * 4 + c] == 0;
  }
  for (float e : r[3]) holds = holds && std::isfinite(e);
  for (float e : r[4]) holds = holds && std::isfinite(e);
  support::expect_true("attention", where + " nothing visible", holds, "not 0, -inf, 0");
}

// One query whose scores climb from key tile to key tile by `climb`, so that its running maximum
// moves in every tile, in some or in none: o and lse are those of the plain sums.
template <class T, class B>
void climbing_scores(const B& b, double climb, const std::string& where) {
  const problem p{.n = 1, .m = 700, .h = 1, .hk = 1, .d = 1, .dv = 1, .scale = 1};
  data x = draw<T>(p, "climb");
  x.q = {1};
  double top = -infinity, sum = 0, weighted = 0, size = 0;
  for (std::size_t j = 0; j < x.k.size(); ++j) {
    x.k[j] = support::to_double(static_cast<T>(climb * static_cast<double>(j / 64) + x.k[j] / 4));
    top = std::max(top, x.k[j]);
  }
  for (std::size_t j = 0; j < x.k.size(); ++j) {
    const double weight = std::exp(x.k[j] - top);
    sum += weight, weighted += weight * x.v[j], size += weight * std::abs(x.v[j]);
  }
  const auto r = outcome<T>(b, p, local<1024>{}, x);
  // A score near `top` has that many digits less.
  const double unit = 4 * std::numeric_limits<T>::epsilon() * (4 + std::abs(top));
  const double o = support::to_double(r[0][0]), lse = support::to_double(r[1][0]);
  support::expect_true("attention", where + support::text(" climb", climb),
                       std::abs(o - weighted / sum) <= unit * size / sum &&
                           std::abs(lse - top - std::log(sum)) <= unit,
                       support::text("o", o, "expected", weighted / sum, "lse", lse, "expected",
                                     top + std::log(sum)));
}

}  // namespace

TEST_CASE("attention limits: scores that climb") {
  for (double climb : {-60.0, -3.0, 0.0, 1.0, 5.0, 5.5, 6.0, 9.0, 100.0}) {
    climbing_scores<float>(cpu(), climb, "cpu f32");
    climbing_scores<double>(cpu(), climb, "cpu f64");
    climbing_scores<float>(reference(), climb, "reference f32");
  }
}

TEST_CASE("attention limits: masked values do not matter") {
  poisoned_keys<float>(cpu({.threads = 2}), "cpu f32");
  poisoned_keys<double>(cpu(), "cpu f64");
  poisoned_keys<float>(reference(), "reference f32");
}

TEST_CASE("attention limits: visible NaN stays, and only where it is visible") {
  spreading<float>(cpu(), "cpu f32");
  spreading<double>(cpu(), "cpu f64");
  spreading<double>(reference(), "reference f64");
}

TEST_CASE("attention limits: a query that sees nothing") {
  nothing_visible(cpu(), "cpu");
  nothing_visible(reference(), "reference");
}

TEST_CASE("attention limits: scores of -inf only count as seeing nothing") {
  const problem p{.n = 2, .m = 2, .h = 1, .hk = 1, .d = 1, .dv = 1};
  const data x{{1, 1}, {-infinity, -infinity}, {1, 2}, {1, 1}};
  for (const auto& r :
       {outcome<double>(cpu(), p, causal{}, x), outcome<double>(reference(), p, causal{}, x)}) {
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(r[0][i] == 0);
      CHECK(r[1][i] == -infinity);
      CHECK(r[2][i] == 0);
    }
  }
}

TEST_CASE("attention limits: zero sizes") {
  const index_t sizes[][6] = {{0, 5, 2, 1, 4, 4}, {5, 0, 2, 1, 4, 4}, {0, 0, 2, 1, 4, 4},
                              {5, 5, 2, 1, 0, 4}, {5, 5, 2, 1, 4, 0}, {5, 5, 0, 0, 4, 4},
                              {5, 5, 0, 2, 4, 4}};
  const auto check = [](const auto& b, const problem& p) {
    arrays<float> a(p, draw<float>(p, "zero"));
    a.forward(b, spec_of(p, causal{}));
    a.backward(b, spec_of(p, causal{}));
    bool holds = a.clean();
    for (float e : a.o.values()) holds = holds && std::isfinite(e) && (p.m > 0 || e == 0);
    for (float e : a.lse.values()) holds = holds && (p.m > 0 ? std::isfinite(e) : e == -infinity);
    for (auto* g : {&a.dq, &a.dk, &a.dv}) {
      for (float e : g->values()) holds = holds && std::isfinite(e) && (p.n > 0 || e == 0);
    }
    support::expect_true("attention", case_name(p, "zero"), holds, "not zeros");
  };
  for (const auto& s : sizes) {
    const problem p{.n = s[0], .m = s[1], .h = s[2], .hk = s[3], .d = s[4], .dv = s[5]};
    check(cpu({.threads = 2}), p);
    check(reference(), p);
  }
  support::facet("attention", "zero");
  support::facet("attention_backward", "zero");
}

TEST_CASE("attention limits: what is refused") {
  const cpu b;
  const auto forward = [&](index_t(&&s)[12], problem p = {}) {
    array<float> q(s[0], s[1], s[2]), k(s[3], s[4], s[5]), v(s[6], s[7], s[8]);
    array<float> o(s[9], s[10], s[11]);
    ops::attention(b, attention_inputs{q.get(), k.get(), v.get()}, attention_outputs{o.get()},
                   spec_of(p, causal{}));
  };
  using code = error_code;
  CHECK_ERROR(code::shape_mismatch, "attention: k", "[6, 2, 7]", "7", "8",
              forward({5, 4, 8, 6, 2, 7, 6, 2, 3, 5, 4, 3}));
  CHECK_ERROR(code::shape_mismatch, "attention: v", "[7, 2, 3]", "7", "6",
              forward({5, 4, 8, 6, 2, 8, 7, 2, 3, 5, 4, 3}));
  CHECK_ERROR(code::shape_mismatch, "attention: v", "[6, 1, 3]",
              forward({5, 4, 8, 6, 2, 8, 6, 1, 3, 5, 4, 3}));
  CHECK_ERROR(code::shape_mismatch, "attention: o", "[4, 4, 3]",
              forward({5, 4, 8, 6, 2, 8, 6, 2, 3, 4, 4, 3}));
  CHECK_ERROR(code::shape_mismatch, "attention: o", "[5, 4, 8]",
              forward({5, 4, 8, 6, 2, 8, 6, 2, 3, 5, 4, 8}));
  CHECK_ERROR(code::shape_mismatch, "4 heads", "3 heads",
              forward({5, 4, 8, 6, 3, 8, 6, 3, 3, 5, 4, 3}));
  CHECK_ERROR(code::shape_mismatch, "4 heads", "0 heads",
              forward({5, 4, 8, 6, 0, 8, 6, 0, 3, 5, 4, 3}));
  CHECK_ERROR(code::invalid_argument, "scale is inf",
              forward({5, 4, 8, 6, 2, 8, 6, 2, 3, 5, 4, 3}, {.scale = infinity}));
  CHECK_ERROR(code::invalid_argument, "start is -2",
              forward({5, 4, 8, 6, 2, 8, 6, 2, 3, 5, 4, 3}, {.start = -2}));
  const auto packed = [&](std::vector<std::int32_t> qo, std::vector<std::int32_t> ko) {
    problem p;
    p.query_offsets = std::move(qo), p.key_offsets = std::move(ko);
    forward({5, 4, 8, 6, 2, 8, 6, 2, 3, 5, 4, 3}, p);
  };
  CHECK_ERROR(code::shape_mismatch, "query_offsets[3]", "key_offsets[2]",
              packed({0, 2, 5}, {0, 6}));
  CHECK_ERROR(code::shape_mismatch, "query_offsets[2]", "key_offsets[0]", packed({0, 5}, {}));
  CHECK_ERROR(code::offsets, "query_offsets[0] is 1", packed({1, 5}, {0, 6}));
  CHECK_ERROR(code::offsets, "query_offsets[2] is 1", "less than 3",
              packed({0, 3, 1, 5}, {0, 2, 2, 6}));
  CHECK_ERROR(code::offsets, "key_offsets[1] is 7", "6 rows", packed({0, 5}, {0, 7}));
  CHECK_ERROR(code::offsets, "query_offsets[1] is 4", "5 rows", packed({0, 4}, {0, 6}));
  support::facet("attention", "errors");
}

TEST_CASE("attention limits: null data and what backward refuses") {
  const reference b;
  const problem p{.n = 3, .m = 3, .h = 2, .hk = 1, .d = 4, .dv = 5};
  arrays<float> a(p, draw<float>(p, "null"));
  const view<float, host, dyn, dyn, dyn> null(nullptr, {3, 2, 4});
  CHECK_ERROR(error_code::invalid_argument, "attention: q", "null",
              ops::attention(b, attention_inputs{null, a.k.get(), a.v.get()},
                             attention_outputs{a.o.get()}, attention_spec<causal>{}));
  array<float> wrong(3, 2, 3);
  const auto backward = [&](auto d_o, auto dq, auto dk, auto dv) {
    ops::attention_backward(b, attention_inputs{a.q.get(), a.k.get(), a.v.get()},
                            attention_outputs{a.o.get(), a.lse_view()},
                            attention_gradients{d_o, dq, dk, dv}, attention_spec<causal>{});
  };
  const auto g = a.g.get(), dq = a.dq.get(), dk = a.dk.get(), dv = a.dv.get(), w = wrong.get();
  CHECK_ERROR(error_code::shape_mismatch, "attention_backward: d_o", "[3, 2, 3]",
              backward(w, dq, dk, dv));
  CHECK_ERROR(error_code::shape_mismatch, "attention_backward: dq", backward(g, w, dk, dv));
  CHECK_ERROR(error_code::shape_mismatch, "attention_backward: dk", backward(g, dq, w, dv));
  CHECK_ERROR(error_code::shape_mismatch, "attention_backward: dv", backward(g, dq, dk, w));
  support::facet("attention_backward", "errors");
}
