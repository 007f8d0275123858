// SPDX-License-Identifier: Apache-2.0
// Packed sequences, start positions, and equal bits: any number of threads, a sequence alone or in
// a batch, decoding one query at a time or all at once, a second run.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

using namespace attention_test;

namespace {

using mixed = both<causal, either<local<20>, random_blocks<16, 2>>>;

problem in_sequences(std::vector<std::int32_t> queries, std::vector<std::int32_t> keys) {
  problem p{.n = queries.back(), .m = keys.back(), .h = 4, .hk = 2, .d = 16, .dv = 12};
  p.query_offsets = std::move(queries);
  p.key_offsets = std::move(keys);
  return p;
}

template <class T, class P>
std::vector<std::vector<T>> all_bits(const problem& p, const P& pattern, int threads) {
  arrays<T> a(p, draw<T>(p, "bits"));
  const cpu b({.threads = threads});
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  return results(a, wanted::gradients);
}

std::vector<double> part(const std::vector<double>& x, index_t first, index_t count) {
  return {x.begin() + first, x.begin() + first + count};
}

}  // namespace

TEST_CASE("attention sequences: against the oracle") {
  const problem problems[] = {
      in_sequences({0, 5, 5, 75, 200}, {0, 5, 5, 75, 200}),
      in_sequences({0, 70, 71, 180}, {0, 3, 100, 100}),
      in_sequences({0, 0, 100}, {0, 64, 164}),
      in_sequences({0, 40}, {0, 130}),
  };
  for (problem p : problems) {
    for (index_t start : {-1, 0, 7}) {
      p.start = start;
      const std::string name = case_name(p, "sequences");
      run<float>(cpu({.threads = 2}), p, causal{}, causal_rule(), name + " cpu f32",
                 wanted::gradients);
      run<double>(cpu(), p, everyone{}, all_rule(), name + " cpu f64", wanted::gradients);
      run<double>(reference(), p, causal{}, causal_rule(), name + " reference", wanted::gradients);
    }
  }
}

TEST_CASE("attention sequences: equal bits for any number of threads, and again") {
  problem long_one{.n = 200, .m = 230, .h = 2, .hk = 1, .d = 24, .dv = 40};
  for (const problem& p : {long_one, in_sequences({0, 5, 75, 200}, {0, 9, 75, 200})}) {
    const auto pattern = make_pattern<mixed>({3, 4});
    const auto one = all_bits<float>(p, pattern, 1);
    for (int threads : {1, 2, 3, 8}) {
      const std::string name = case_name(p, support::text("threads", threads));
      support::expect_true("attention", name, same(one, all_bits<float>(p, pattern, threads)),
                           "other bits");
    }
    support::expect_true("attention", case_name(p, "f64"),
                         same(all_bits<double>(p, pattern, 1), all_bits<double>(p, pattern, 3)),
                         "other bits");
  }
}

TEST_CASE("attention sequences: a sequence of a batch equals it alone") {
  const problem p = in_sequences({0, 5, 75, 200}, {0, 9, 75, 200});
  const data x = draw<float>(p, "alone");
  const auto pattern = make_pattern<mixed>({3, 4});
  const cpu b({.threads = 2});
  arrays<float> batch(p, x);
  batch.forward(b, spec_of(p, pattern));
  batch.backward(b, spec_of(p, pattern));
  for (std::size_t s = 0; s < 3; ++s) {
    problem alone = p;
    const index_t q0 = p.query_offsets[s], k0 = p.key_offsets[s];
    alone.n = p.query_offsets[s + 1] - q0, alone.m = p.key_offsets[s + 1] - k0;
    alone.query_offsets.clear(), alone.key_offsets.clear();
    arrays<float> a(alone, {part(x.q, q0 * p.h * p.d, alone.n * p.h * p.d),
                            part(x.k, k0 * p.hk * p.d, alone.m * p.hk * p.d),
                            part(x.v, k0 * p.hk * p.dv, alone.m * p.hk * p.dv),
                            part(x.g, q0 * p.h * p.dv, alone.n * p.h * p.dv)});
    a.forward(b, spec_of(alone, pattern));
    a.backward(b, spec_of(alone, pattern));
    const auto within = [](array<float>& all, index_t first, index_t width,
                           const std::vector<float>& own) {
      const auto v = all.values();
      const auto from = v.begin() + first * width;
      return support::same_bits({from, from + static_cast<index_t>(own.size())}, own);
    };
    const bool equal = within(batch.o, q0, p.h * p.dv, a.o.values()) &&
                       within(batch.lse, q0, p.h, a.lse.values()) &&
                       within(batch.dq, q0, p.h * p.d, a.dq.values()) &&
                       within(batch.dk, k0, p.hk * p.d, a.dk.values()) &&
                       within(batch.dv, k0, p.hk * p.dv, a.dv.values());
    support::expect_true("attention", support::text("sequence", s), equal, "other bits");
  }
}

namespace {

void prefill_equals_decoding(const problem& p) {
  const data x = draw<float>(p, "decode");
  const auto pattern = make_pattern<mixed>({9, 1});
  const cpu b;
  arrays<float> whole(p, x);
  whole.forward(b, spec_of(p, pattern));
  const auto expected = results(whole, wanted::forward);
  for (index_t step : {1, 7, 64, 100}) {
    std::vector<std::vector<float>> got(2);
    for (index_t i = 0; i < p.n; i += step) {
      problem now = p;
      now.n = std::min(step, p.n - i), now.m = i + now.n;  // only the keys there are by now
      now.start = i;
      arrays<float> a(
          now, {part(x.q, i * p.h * p.d, now.n * p.h * p.d), part(x.k, 0, now.m * p.hk * p.d),
                part(x.v, 0, now.m * p.hk * p.dv), part(x.g, i * p.h * p.dv, now.n * p.h * p.dv)});
      a.forward(b, spec_of(now, pattern));
      const auto rows = results(a, wanted::forward);
      for (std::size_t r = 0; r < 2; ++r)
        got[r].insert(got[r].end(), rows[r].begin(), rows[r].end());
    }
    support::expect_true("attention", case_name(p, support::text("step", step)),
                         same(expected, got), "other bits");
  }
}

}  // namespace

TEST_CASE("attention sequences: prefill equals decoding and chunks, bit for bit") {
  prefill_equals_decoding({.n = 150, .m = 150, .h = 4, .hk = 2, .d = 20, .dv = 36});
  // Twelve heads: a query alone reads keys where they stand.
  prefill_equals_decoding({.n = 150, .m = 150, .h = 12, .hk = 1, .d = 20, .dv = 32});
}
