// SPDX-License-Identifier: Apache-2.0
// attention_weights against the oracle's probabilities: shared key heads, strides, types, patterns,
// packed sequences, wider rows; NaN of hidden keys; zero sizes and errors.
#include "deepseek/ops/attention_weights.hpp"

#include "ops/attention_case.hpp"

#include "deepseek/backend/cpu/attention_weights.hpp"
#include "deepseek/pattern/band.hpp"

using namespace attention_test;

namespace {

constexpr const char* op = "attention_weights";

// The mean over heads of the oracle's weights, [n, columns], 0 where hidden.
std::vector<double> mean_weights(const problem& p, const data& x, const rule& sees,
                                 index_t columns) {
  std::vector<double> mean(static_cast<std::size_t>(p.n * columns)), row;
  const index_t start = p.start >= 0 ? p.start : p.m - p.n;
  for (index_t h = 0; h < p.h; ++h) {
    const index_t q_at[] = {0, p.n, h}, k_at[] = {0, p.m, h / (p.h / p.hk)};
    const oracle::attention_inputs in{
        head_of(x.q, p.h, p.d, q_at), head_of(x.k, p.hk, p.d, k_at), {}};
    oracle::attention_shape s;
    s.queries = static_cast<std::size_t>(p.n), s.keys = static_cast<std::size_t>(p.m);
    s.dim = static_cast<std::size_t>(p.d);
    s.scale = p.scale;
    const auto pair = [&](std::size_t i, std::size_t j) {
      return sees(h, start + static_cast<index_t>(i), static_cast<index_t>(j), p.m);
    };
    for (std::size_t i = 0; i < s.queries; ++i) {
      oracle::detail::attention_row(in, s, pair, i, 0, row);
      for (std::size_t j = 0; j < s.keys; ++j) {
        if (pair(i, j)) {
          mean[i * static_cast<std::size_t>(columns) + j] += row[j] / static_cast<double>(p.h);
        }
      }
    }
  }
  return mean;
}

template <class T, class B, class P>
std::vector<T> weights(const B& b, arrays<T>& a, const P& spec, index_t n, index_t columns) {
  using sum = accumulate_t<T>;
  a.forward(b, spec);
  array<T> out(1, n, columns);
  const auto v = out.get();
  const view<T, host, dyn, dyn> rows(v.data(), {n, columns});
  const view<const sum, host, dyn, dyn> lse = a.lse_view();
  ops::attention_weights(b, attention_weights_inputs{a.q.get(), a.k.get(), lse}, rows, spec);
  CHECK(out.intact());
  return out.values();
}

template <class T, class B, class P>
void check(const B& b, problem p, const P& pattern, const rule& sees, const std::string& name,
           layout how = layout::plain) {
  p.scale = 0.4;
  const data x = draw<T>(p, name);
  arrays<T> a(p, x, how);
  const index_t columns = p.m + 5;
  const auto got = weights(b, a, spec_of(p, pattern), p.n, columns);
  auto limits = trusting(support::attention_limits(dtype_of<T>, static_cast<std::size_t>(p.m)));
  const auto want = mean_weights(p, x, sees, columns);
  limits.relative += sizeof(T) == 2 ? unit_roundoff<T> : 64 * support::exact(dtype_of<T>).relative;
  limits.c = -1;
  support::expect(op, case_name(p, name), support::compare(limits, got, want, want.size()));
  bool zeros = true;
  for (std::size_t i = 0; i < want.size(); ++i)
    zeros = zeros && (want[i] != 0 || got[i] == T(0.0F));
  support::expect_true(op, "hidden " + case_name(p, name), zeros, "a hidden key has a weight");
}

const problem shapes[] = {
    {.n = 1, .m = 1, .h = 1, .hk = 1, .d = 1, .dv = 1},
    {.n = 33, .m = 70, .h = 4, .hk = 2, .d = 16, .dv = 3},
    {.n = 70, .m = 64, .h = 3, .hk = 1, .d = 5, .dv = 2},
    {.n = 31, .m = 200, .h = 2, .hk = 2, .d = 33, .dv = 4, .start = 40},
};

}  // namespace

TEST_CASE("attention_weights: against the oracle") {
  const cpu threaded({.threads = 2});
  for (const problem& p : shapes) {
    for (const layout how : layouts) {
      check<float>(threaded, p, causal{}, causal_rule(), "causal f32", how);
      check<double>(threaded, p, causal{}, causal_rule(), "causal f64", how);
      check<double>(reference(), p, causal{}, causal_rule(), "reference f64", how);
    }
    check<bf16>(reference(), p, causal{}, causal_rule(), "reference bf16");
    check<float>(
        threaded, p, local<9>{},
        [](index_t, index_t q, index_t k, index_t) { return q - k <= 9 && k - q <= 9; }, "local");
  }
  support::facet(op, "forward");
  support::facet(op, "strides");
  support::not_applicable(op, "gradient");
}

TEST_CASE("attention_weights: sequences alone, threads, NaN of hidden keys") {
  const problem p{.n = 90, .m = 90, .h = 4, .hk = 2, .d = 8, .dv = 3, .scale = 0.4};
  const data x = draw<float>(p, "packed");
  const std::int32_t offsets[] = {0, 40, 40, 90};
  auto spec = spec_of(p, causal{});
  arrays<float> a(p, x);
  const auto whole = weights(cpu{}, a, spec, 90, 90);
  CHECK(support::same_bits(whole, weights(cpu({.threads = 3}), a, spec, 90, 90)));
  data dirty = x;
  for (index_t c = 0; c < p.hk * p.d; ++c)
    dirty.k[static_cast<std::size_t>(89 * p.hk * p.d + c)] = std::nan("");
  arrays<float> with_nan(p, dirty);
  const auto got = weights(cpu{}, with_nan, spec, 90, 90);
  CHECK(std::equal(whole.begin(), whole.begin() + 89 * 90, got.begin()));
  spec.query_offsets = spec.key_offsets = {offsets, {4}};
  const auto packed = weights(cpu{}, a, spec, 90, 50);
  for (const index_t i : {0, 39}) {  // the first sequence is the head of the whole
    const auto row = whole.begin() + i * 90;
    CHECK(std::equal(row, row + 40, packed.begin() + i * 50));
  }
  for (const index_t i : {40, 63, 89}) {
    double sum = 0;
    for (index_t j = 0; j < 50; ++j)
      sum += static_cast<double>(packed[static_cast<std::size_t>(i * 50 + j)]);
    CHECK(sum == doctest::Approx(1));
  }
}

TEST_CASE("attention_weights: zero sizes and errors") {
  const auto check_on = [](const auto& b) {
    array<float> q(4, 2, 3), k(5, 1, 3), none_left(0, 2, 3), wide(5, 1, 2), three(5, 3, 3);
    tensor<float, host, dyn, dyn> lse({4, 2}), p({4, 5}), narrow({4, 4}), no_lse({0, 2}),
        empty({0, 5});
    const attention_spec<causal> spec{};
    const auto call = [&](auto& queries, auto& keys, auto& sums, auto& to) {
      ops::attention_weights(b, attention_weights_inputs{queries.get(), keys.get(), sums}, to,
                             spec);
    };
    call(none_left, k, no_lse, empty);
    using code = error_code;
    CHECK_ERROR(code::shape_mismatch, "attention_weights: k[5, 1, 2]", call(q, wide, lse, p));
    CHECK_ERROR(code::shape_mismatch, "attention_weights: lse[0, 2]", call(q, k, no_lse, p));
    CHECK_ERROR(code::shape_mismatch, "p[4, 4]", "5 keys", call(q, k, lse, narrow));
    CHECK_ERROR(code::shape_mismatch, "2 heads", "3 heads", call(q, three, lse, p));
    const attention_spec<causal> far{.start = -2};
    CHECK_ERROR(code::invalid_argument, "attention_weights: start is -2",
                ops::attention_weights(b, attention_weights_inputs{q.get(), k.get(), lse}, p, far));
  };
  check_on(reference{});
  check_on(cpu{});
  support::facet(op, "zero");
  support::facet(op, "errors");
}
