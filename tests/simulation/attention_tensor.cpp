// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores, simulated, causal: bf16 against the oracle over lengths around every
// tile edge, widths, heads that share keys; the bits of a query alone and of pages; ranges of keys;
// NaN where it must not matter and where it must stay.
#include "simulation/attention_tensor_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/compressed.hpp"

using namespace attention_test;

TEST_CASE("attention tensor cores: causal, against the oracle") {
  constexpr index_t queries[] = {1, 3, 17, 65, 129}, keys[] = {1, 63, 64, 65, 130, 200};
  const cpu b;
  int done = 0;
  for (const auto& row : support::pairwise({5, 6, 4, 4})) {
    const problem p = tensor_problem(queries[row[0]], keys[row[1]], static_cast<int>(row[2]),
                                     static_cast<int>(row[3]));
    const layout how = ++done % 2 == 0 ? layout::plain : layout::heads_first;
    run<bf16>(b, p, causal{}, causal_rule(), case_name(p, "tensor bf16"), wanted::gradients, how);
  }
}

TEST_CASE("attention tensor cores: a query alone and pages have the bits of the batch") {
  const problem p = tensor_problem(150, 150, 0, 1);
  const data x = draw<bf16>(p, "alone");
  const cpu b;
  arrays<bf16> whole(p, x), one(p, x);
  CHECK(cuda_attention::run_tensor_forward(
      b, attention_inputs{whole.q.get(), whole.k.get(), whole.v.get()},
      attention_outputs{whole.o.get(), whole.lse_view()}, spec_of(p, causal{})));
  whole.forward(b, spec_of(p, causal{}));
  const auto all = whole.o.values();
  const auto lse = whole.lse.values();
  for (const index_t i : {0, 63, 64, 149}) {
    auto spec = spec_of(p, causal{});
    spec.start = i;
    ops::attention(b, attention_inputs{rows(one.q.get(), i, 1), one.k.get(), one.v.get()},
                   attention_outputs{rows(one.o.get(), i, 1), rows(one.lse_view(), i, 1)}, spec);
    const auto got = one.o.values();
    const auto at = i * p.h * p.dv;
    CHECK(std::equal(got.begin() + at, got.begin() + at + p.h * p.dv, all.begin() + at));
    CHECK(one.lse.values()[static_cast<std::size_t>(i * p.h)] ==
          lse[static_cast<std::size_t>(i * p.h)]);
  }
  // Key t stands in row pages[t / 32] 32 + t mod 32; every other row holds NaN.
  const std::int32_t pages[] = {3, 0, 6, 5, 1};
  problem stored = p;
  stored.m = 7 * 32;
  data far = draw<bf16>(stored, "pages");
  far.q = x.q;
  std::fill(far.k.begin(), far.k.end(), std::nan(""));
  std::fill(far.v.begin(), far.v.end(), std::nan(""));
  for (index_t t = 0; t < 150; ++t) {
    const index_t row = pages[t / 32] * 32 + t % 32;
    std::copy_n(x.k.begin() + t * p.d, p.d, far.k.begin() + row * p.d);
    std::copy_n(x.v.begin() + t * p.dv, p.dv, far.v.begin() + row * p.dv);
  }
  arrays<bf16> paged(stored, far);
  auto spec = spec_of(stored, causal{});
  spec.pages = {{pages, {5}}, 32};
  spec.keys = 150;
  paged.forward(b, spec);
  CHECK(support::same_bits(paged.o.values(), all));
}

TEST_CASE("attention tensor cores: ranges of keys have the bits of whole rows") {
  struct roomy : cpu {  // blocks of 128 rows, with their sums between ranges
    static std::size_t most_shared_bytes() { return std::size_t{227} << 10U; }
  };
  for (const int widths : {0, 2}) {
    const problem p = tensor_problem(40, 1100, widths, 1);
    const data x = draw<bf16>(p, "ranges");
    arrays<bf16> whole(p, x), large(p, x), one(p, x);
    whole.forward(cpu(), spec_of(p, causal{}));
    large.forward(roomy(), spec_of(p, causal{}));
    expect_forward(p, whole, oracle_answer(p, x, causal_rule()), case_name(p, "ranges"));
    CHECK(same(results(whole, wanted::forward), results(large, wanted::forward)));
    const auto all = whole.o.values();
    const auto lse = whole.lse.values();
    for (const index_t i : {0, 39}) {
      auto spec = spec_of(p, causal{});
      spec.start = p.m - p.n + i;
      const cpu b;
      ops::attention(b, attention_inputs{rows(one.q.get(), i, 1), one.k.get(), one.v.get()},
                     attention_outputs{rows(one.o.get(), i, 1), rows(one.lse_view(), i, 1)}, spec);
      CHECK(b.launches() == 2);
      const auto got = one.o.values();
      const auto at = i * p.h * p.dv;
      CHECK(std::equal(got.begin() + at, got.begin() + at + p.h * p.dv, all.begin() + at));
      CHECK(one.lse.values()[static_cast<std::size_t>(i * p.h)] ==
            lse[static_cast<std::size_t>(i * p.h)]);
    }
  }
}

TEST_CASE("attention tensor cores: a start in memory, launched for all keys there may be") {
  const problem p = tensor_problem(1, 1100, 0, 1);
  const data x = draw<bf16>(p, "moving");
  const cpu b;
  arrays<bf16> fixed(p, x), moving(p, x);
  for (const std::int32_t start : {0, 300, 511, 512, 1099}) {
    auto spec = spec_of(p, causal{});
    spec.start = start;
    ops::attention(b,
                   attention_inputs{fixed.q.get(), rows(fixed.k.get(), 0, start + 1),
                                    rows(fixed.v.get(), 0, start + 1)},
                   attention_outputs{fixed.o.get(), fixed.lse_view()}, spec);
    spec.start = 0;
    spec.start_at = {&start, {1}};
    const auto before = b.launches();
    moving.forward(b, spec);
    CHECK(b.launches() == before + 2);  // ranges, whatever the start
    CHECK(support::same_bits(moving.o.values(), fixed.o.values()));
    CHECK(support::same_bits(moving.lse.values(), fixed.lse.values()));
  }
  const std::int32_t beyond = 1100;
  auto spec = spec_of(p, causal{});
  spec.start_at = {&beyond, {1}};
  CHECK_ERROR(error_code::index_range, "start_at[0] is 1100", "1100 keys", moving.forward(b, spec));
  spec.ratio = 0;
  CHECK_ERROR(error_code::invalid_argument, "ratio is 0", moving.forward(b, spec));
}

TEST_CASE("attention tensor cores: a start in memory, of entries") {
  const problem p = tensor_problem(1, 700, 0, 1);
  const data x = draw<bf16>(p, "entries");
  const cpu b;
  arrays<bf16> fixed(p, x), moving(p, x);
  for (const std::int32_t start : {0, 2, 3, 1300, 2047, 2799, 2802}) {
    const index_t entries = (start + 1) / 4;
    auto spec = spec_of(p, compressed<4>{});
    spec.start = start;
    ops::attention(b,
                   attention_inputs{fixed.q.get(), rows(fixed.k.get(), 0, entries),
                                    rows(fixed.v.get(), 0, entries)},
                   attention_outputs{fixed.o.get(), fixed.lse_view()}, spec);
    spec.start = 0;
    spec.start_at = {&start, {1}};
    spec.ratio = 4;
    moving.forward(b, spec);
    CHECK(support::same_bits(moving.o.values(), fixed.o.values()));
    CHECK(support::same_bits(moving.lse.values(), fixed.lse.values()));
  }
  const std::int32_t beyond = 2803;
  auto spec = spec_of(p, compressed<4>{});
  spec.start_at = {&beyond, {1}};
  spec.ratio = 4;
  CHECK_ERROR(error_code::index_range, "start_at[0] is 2803", "700 keys (ratio 4)",
              moving.forward(b, spec));
}

TEST_CASE("attention tensor cores: NaN") {
  const problem p = tensor_problem(150, 150, 0, 1);
  const data clean = draw<bf16>(p, "nan");
  const cpu b;
  const auto outcome = [&](const data& x) {
    arrays<bf16> a(p, x);
    a.forward(b, spec_of(p, causal{}));
    a.backward(b, spec_of(p, causal{}));
    return results(a, wanted::gradients);
  };
  const auto before = outcome(clean);
  constexpr index_t at = 90;
  const auto reached = [&](const std::vector<bf16>& x, index_t width, index_t first, index_t last) {
    for (index_t i = 0; i < static_cast<index_t>(x.size()); ++i) {
      const bool inside = i / width >= first && i / width < last;
      if (std::isnan(static_cast<float>(x[static_cast<std::size_t>(i)])) != inside) return false;
    }
    return true;
  };
  for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    data v = clean, q = clean;
    std::fill_n(v.v.begin() + at * p.hk * p.dv, p.hk * p.dv, poison);
    const auto from_v = outcome(v);
    bool same_before = true, there = true;
    for (index_t i = 0; i < p.n * p.h * p.dv; ++i) {
      const float now = from_v[0][static_cast<std::size_t>(i)];
      if (i / (p.h * p.dv) < at) {
        same_before = same_before && now == before[0][static_cast<std::size_t>(i)];
      } else {
        there = there && !std::isfinite(now);
      }
    }
    CHECK(same_before);
    CHECK(there);
    CHECK(support::same_bits(from_v[1], before[1]));
  }
  data q = clean;
  std::fill_n(q.q.begin() + at * p.h * p.d, p.h * p.d, std::nan(""));
  const auto from_q = outcome(q);
  CHECK(reached(from_q[0], p.h * p.dv, at, at + 1));
  CHECK(reached(from_q[1], p.h, at, at + 1));
  CHECK(reached(from_q[2], p.h * p.d, at, at + 1));
  CHECK(reached(from_q[3], p.hk * p.d, 0, at + 1));
  CHECK(reached(from_q[4], p.hk * p.dv, 0, at + 1));
}

TEST_CASE("attention tensor cores: queries that see nothing, no keys") {
  const cpu b;
  for (const index_t keys : {0, 4}) {
    const problem p = tensor_problem(40, keys, 0, 1);
    const data x = draw<bf16>(p, "nothing");
    arrays<bf16> a(p, x);
    a.forward(b, spec_of(p, causal{}));
    a.backward(b, spec_of(p, causal{}));
    bool zero = true;
    const auto o = a.o.values();
    const auto lse = a.lse.values();
    for (index_t i = 0; i < (p.n - keys) * p.h; ++i) {
      zero = zero && lse[static_cast<std::size_t>(i)] == -std::numeric_limits<float>::infinity();
      for (index_t c = 0; c < p.dv; ++c) {
        zero = zero && o[static_cast<std::size_t>(i * p.dv + c)] == 0.0F;
      }
    }
    for (const auto& e : a.dq.values()) zero = zero && std::isfinite(static_cast<float>(e));
    CHECK(zero);
    CHECK(a.clean());
  }
}
