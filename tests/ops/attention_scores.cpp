// SPDX-License-Identifier: Apache-2.0
// Score modifiers: alibi, soft_cap, both, a user's own; forward and backward against the oracle on
// both backends, 4-point differences, positions (start, packed sequences, pages), threads, a query
// alone, NaN that nobody sees, errors.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

namespace {

double distance(index_t q, index_t k) {
  return static_cast<double>(q > k ? q - k : k - q);
}

// The published slopes, written a second time.
double slope_of(index_t heads, index_t h) {
  index_t p = 1;
  while (p * 2 <= heads) p *= 2;
  const double first = std::exp2(-8.0 / static_cast<double>(p));
  if (h < p) return std::pow(first, static_cast<double>(h + 1));
  return std::pow(std::sqrt(first), static_cast<double>(2 * (h - p) + 1));
}
modifier alibi_rule(index_t heads) {
  return [=](index_t h, index_t q, index_t k, double s) {
    return oracle::changed_score{s - slope_of(heads, h) * distance(q, k), 1};
  };
}
modifier cap_rule(double c) {
  return [=](index_t, index_t, index_t, double s) {
    const double wide = std::cosh(s / c);  // 1 - tanh^2 would lose its digits where it is small
    return oracle::changed_score{c * std::tanh(s / c), 1 / (wide * wide)};
  };
}
modifier in_turn(const modifier& a, const modifier& b) {
  return [=](index_t h, index_t q, index_t k, double s) {
    const auto first = a(h, q, k, s);
    const auto second = b(h, q, k, first.score);
    return oracle::changed_score{second.score, first.slope * second.slope};
  };
}

// A user's: s' = s^2 / 4 where the positions are of one parity, else s.
struct own_modifier {
  template <class T>
  DEEPSEEK_HOST_DEVICE modified_score<T> change(T s, index_t q, index_t k) const {
    if ((q + k) % 2 != 0) return {s, T(1)};
    return {s * s / T(4), s / T(2)};
  }
};
modifier own_rule() {
  return [](index_t, index_t q, index_t k, double s) {
    if ((q + k) % 2 != 0) return oracle::changed_score{s, 1};
    return oracle::changed_score{s * s / 4, s / 2};
  };
}

// Past keys, whatever the modifier.
template <class M>
scored<causal, M> over_causal(const M& m) {
  return {causal{}, m};
}

template <class P>
void sweep(const char* label, index_t heads, const P& pattern, const modifier& change) {
  const cpu threaded({.threads = 2});
  const index_t h = heads, hk = heads % 2 == 0 ? heads / 2 : 1;
  const problem shapes[] = {
      {.n = 70, .m = 70, .h = h, .hk = hk, .d = 8, .dv = 8},
      {.n = 33, .m = 140, .h = h, .hk = 1, .d = 16, .dv = 5},
      {.n = 90, .m = 65, .h = h, .hk = hk, .d = 5, .dv = 16},
      {.n = 1, .m = 200, .h = h, .hk = 1, .d = 8, .dv = 8},
      {.n = 40, .m = 150, .h = h, .hk = hk, .d = 8, .dv = 8, .start = 77},
      {.n = 60,
       .m = 100,
       .h = h,
       .hk = hk,
       .d = 8,
       .dv = 8,
       .query_offsets = {0, 20, 20, 60},
       .key_offsets = {0, 30, 31, 100}},
  };
  for (problem p : shapes) {
    p.change = change;
    const std::string name = case_name(p, label);
    run<float>(threaded, p, pattern, causal_rule(), name + " cpu f32", wanted::gradients);
    run<double>(threaded, p, pattern, causal_rule(), name + " cpu f64", wanted::gradients,
                layout::padded);
    run<double>(reference(), p, pattern, causal_rule(), name + " reference", wanted::gradients);
  }
}

// The loss is sum w o; x is one of the three inputs.
template <class B, class P>
void differences(const B& b, const problem& p, const P& pattern, const std::string& name) {
  data x = draw<double>(p, name);
  x.g = support::loss_weights(x.g.size());
  arrays<double> a(p, x);
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  const auto check = [&](array<double>& moved, const std::vector<double>& at,
                         array<double>& gradient, const char* what) {
    const auto loss = [&](const std::vector<double>& values) {
      moved.set(values);
      a.forward(b, spec_of(p, pattern));
      return support::weighted_sum(x.g, a.o.values());
    };
    support::expect_gradient("attention_backward", name + " " + what,
                             support::check_gradient(loss, at, gradient.values()));
    moved.set(at);
  };
  check(a.q, x.q, a.dq, "dq");
  check(a.k, x.k, a.dk, "dk");
  check(a.v, x.v, a.dv, "dv");
}

using of_the_run = scored<scored<causal, alibi<dyn>>, soft_cap<>>;
using both_modifiers = scored<scored<causal, alibi<4>>, soft_cap<5, 2>>;

}  // namespace

TEST_CASE("score modifiers: slopes of alibi") {
  for (index_t heads : {1, 2, 3, 4, 6, 8, 12, 16, 20, 32, 40, 71}) {
    for (index_t h = 0; h < heads; ++h) {
      CHECK(std::fabs(alibi_slope(heads, h) / slope_of(heads, h) - 1) < 1e-14);
    }
  }
  // The paper's: 8 heads 1/2, 1/4, ..., 1/256; 16 heads begin with the square root of a half.
  CHECK(alibi_slope(8, 0) == 0.5);
  CHECK(alibi_slope(8, 7) == 1.0 / 256);
  CHECK(std::fabs(alibi_slope(16, 0) - std::sqrt(0.5)) < 1e-15);
}

TEST_CASE("score modifiers: alibi") {
  sweep("alibi 4", 4, over_causal(alibi<4>{}), alibi_rule(4));
}
TEST_CASE("score modifiers: slopes and a cap of the run") {
  const double slopes[] = {0.25, 0, 1.5};
  const view<const double, host, dyn> three(slopes, {3});
  const modifier bias = [&](index_t h, index_t q, index_t k, double s) {
    return oracle::changed_score{s - slopes[h] * distance(q, k), 1};
  };
  sweep("of the run, 50", 3, of_the_run({causal{}, alibi<dyn>(three)}, soft_cap<>(50.0)),
        in_turn(bias, cap_rule(50)));
  sweep("of the run, 0.5", 3, of_the_run({causal{}, alibi<dyn>(three)}, soft_cap<>(0.5)),
        in_turn(bias, cap_rule(0.5)));
}
TEST_CASE("score modifiers: in turn, and a user's own") {
  sweep("alibi, soft cap", 4, both_modifiers{}, in_turn(alibi_rule(4), cap_rule(2.5)));
  sweep("own", 2, over_causal(own_modifier{}), own_rule());
}

TEST_CASE("score modifiers: 4-point differences in double") {
  const problem p{.n = 5, .m = 7, .h = 4, .hk = 2, .d = 3, .dv = 5};
  const problem later{.n = 4, .m = 9, .h = 4, .hk = 1, .d = 5, .dv = 2, .scale = 0.8, .start = 3};
  for (const problem& each : {p, later}) {
    differences(cpu(), each, both_modifiers{}, case_name(each, "modifiers cpu"));
    differences(reference(), each, both_modifiers{}, case_name(each, "modifiers reference"));
    differences(cpu(), each, over_causal(own_modifier{}), case_name(each, "own cpu"));
  }
  support::facet("attention_backward", "gradient");
}

TEST_CASE("score modifiers: scored<everyone> sees both sides; both directions count the same") {
  problem p{.n = 60, .m = 60, .h = 4, .hk = 4, .d = 8, .dv = 8, .change = alibi_rule(4)};
  const scored<everyone, alibi<4>> pattern;
  run<float>(cpu(), p, pattern, all_rule(), case_name(p, "everyone"), wanted::gradients);
}

TEST_CASE("score modifiers: no cap, no slope: the bits of plain attention") {
  const problem p{.n = 80, .m = 80, .h = 2, .hk = 1, .d = 8, .dv = 8};
  const data x = draw<float>(p, "plain");
  const double none[] = {0, 0};
  const of_the_run open({causal{}, alibi<dyn>(view<const double, host, dyn>(none, {2}))},
                        soft_cap<>(std::numeric_limits<double>::infinity()));
  const auto outcome = [&](const auto& b, const auto& pattern) {
    arrays<float> a(p, x);
    a.forward(b, spec_of(p, pattern));
    a.backward(b, spec_of(p, pattern));
    return results(a, wanted::gradients);
  };
  CHECK(same(outcome(cpu(), open), outcome(cpu(), causal{})));
  CHECK(same(outcome(reference(), open), outcome(reference(), causal{})));
}

TEST_CASE("score modifiers: threads, a query alone, pages, NaN that nobody sees") {
  const problem p{.n = 150, .m = 150, .h = 4, .hk = 2, .d = 8, .dv = 8};
  const data x = draw<float>(p, "alone");
  const both_modifiers pattern;
  const auto outcome = [&](int threads) {
    arrays<float> a(p, x);
    a.forward(cpu({.threads = threads}), spec_of(p, pattern));
    a.backward(cpu({.threads = threads}), spec_of(p, pattern));
    return results(a, wanted::gradients);
  };
  const auto whole = outcome(1);
  CHECK(same(whole, outcome(2)));
  CHECK(same(whole, outcome(3)));
  arrays<float> a(p, x);
  for (const index_t i : {0, 63, 149}) {
    auto spec = spec_of(p, pattern);
    spec.start = i;
    ops::attention(cpu({.threads = 2}),
                   attention_inputs{rows(a.q.get(), i, 1), a.k.get(), a.v.get()},
                   attention_outputs{rows(a.o.get(), i, 1), rows(a.lse_view(), i, 1)}, spec);
    const auto got = a.o.values();
    const auto at = i * p.h * p.dv;
    CHECK(std::equal(got.begin() + at, got.begin() + at + p.h * p.dv, whole[0].begin() + at));
  }
  // Key t stands in row pages[t / 32] 32 + t mod 32; every other row holds NaN.
  const std::int32_t pages[] = {3, 0, 6, 5, 1};
  const problem stored{.n = 150, .m = 7 * 32, .h = 4, .hk = 2, .d = 8, .dv = 8};
  data far = draw<float>(stored, "pages");
  far.q = x.q;
  std::fill(far.k.begin(), far.k.end(), std::nan(""));
  std::fill(far.v.begin(), far.v.end(), std::nan(""));
  for (index_t t = 0; t < 150; ++t) {
    const index_t row = pages[t / 32] * 32 + t % 32;
    std::copy_n(x.k.begin() + t * 16, 16, far.k.begin() + row * 16);
    std::copy_n(x.v.begin() + t * 16, 16, far.v.begin() + row * 16);
  }
  arrays<float> paged(stored, far);
  auto spec = spec_of(stored, pattern);
  spec.pages = {{pages, {5}}, 32};
  spec.keys = 150;
  paged.forward(cpu({.threads = 2}), spec);
  CHECK(support::same_bits(paged.o.values(), whole[0]));
}

TEST_CASE("score modifiers: a visible NaN stays, a hidden one does not matter") {
  const problem p{.n = 70, .m = 70, .h = 4, .hk = 4, .d = 8, .dv = 8};
  data x = draw<double>(p, "nan");
  x.k[static_cast<std::size_t>(40 * 4 * 8)] = std::nan("");  // key 40, head 0
  const auto check = [&](const auto& b) {
    arrays<double> a(p, x);
    a.forward(b, spec_of(p, both_modifiers{}));
    const auto o = a.o.get();
    for (index_t i = 0; i < 70; ++i) CHECK(std::isnan(o(i, 0, 0)) == (i >= 40));
    for (index_t i = 0; i < 70; ++i) CHECK(std::isfinite(o(i, 1, 0)));
  };
  check(cpu());
  check(reference());
}

TEST_CASE("score modifiers: errors") {
  const problem p{.n = 4, .m = 4, .h = 2, .hk = 2, .d = 4, .dv = 4};
  arrays<float> a(p, draw<float>(p, "errors"));
  CHECK_ERROR(error_code::shape_mismatch, "slopes of 4 heads for an attention of 2",
              a.forward(cpu(), spec_of(p, over_causal(alibi<4>{}))));
  const double two[] = {1, 1};
  const view<const double, host, dyn> slopes(two, {2});
  CHECK_ERROR(error_code::shape_mismatch, "slopes of 0 heads",
              a.forward(cpu(), spec_of(p, of_the_run({}, soft_cap<>(1.0)))));
  for (const double cap : {0.0, -2.0, std::nan("")}) {
    const of_the_run pattern({causal{}, alibi<dyn>(slopes)}, soft_cap<>(cap));
    CHECK_ERROR(error_code::invalid_argument, "soft_cap: cap is",
                a.forward(cpu(), spec_of(p, pattern)));
    CHECK_ERROR(error_code::invalid_argument, "soft_cap: cap is",
                a.backward(cpu(), spec_of(p, pattern)));
  }
  support::facet("attention", "errors");
}
