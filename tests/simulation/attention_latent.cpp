// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores whose values are the beginnings of their keys (latent attention),
// simulated: against the oracle over rows and keys around every tile edge; the bits of every block
// shape, of ranges of keys, of a query alone, of pages; NaN; score modifiers.
#include "simulation/attention_latent_case.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

namespace {

struct roomy : cpu {  // blocks of 32 and 64 rows
  static std::size_t most_shared_bytes() { return std::size_t{227} << 10U; }
};

// Queries first .. first + n - 1 of the problem; the kernel of this test, not another, must run.
template <class T, class B, class Spec>
void run_rows(const B& b, arrays<T>& a, const Spec& spec, index_t first, index_t n) {
  const bool taken = cuda_attention::run_latent_forward(
      b, latent_inputs_of(a, first, n),
      attention_outputs{rows(a.o.get(), first, n), rows(a.lse_view(), first, n)},
      attention_checks::resolved(spec, a.q.get().extent(2)));
  CHECK(taken);
}
template <class T, class P>
void check(const problem& p, const P& pattern, const rule& sees, const std::string& name) {
  const data x = draw_latent<T>(p, name);
  arrays<T> small(p, x), large(p, x);
  run_rows(cpu(), small, spec_of(p, pattern), 0, p.n);
  run_rows(roomy(), large, spec_of(p, pattern), 0, p.n);
  expect_forward(p, small, oracle_answer(p, x, sees), case_name(p, name));
  CHECK(same(results(small, wanted::forward), results(large, wanted::forward)));
}

}  // namespace

TEST_CASE("attention latent: causal, against the oracle, all shapes of a block") {
  constexpr index_t queries[] = {1, 2, 5}, keys[] = {1, 31, 32, 33, 63, 65, 130};
  constexpr index_t heads[] = {1, 3, 16, 20, 33, 70};
  for (const auto& row : support::pairwise({3, 7, 6}, 14)) {
    check<bf16>(latent_problem(queries[row[0]], keys[row[1]], heads[row[2]]), causal{},
                causal_rule(), "latent bf16");
  }
  check<f16>(latent_problem(2, 70, 16), causal{}, causal_rule(), "latent f16");
  check<bf16>(latent_problem(2, 70, 64, 512), causal{}, causal_rule(), "shared bf16");
}

TEST_CASE("attention latent: patterns, packed sequences, score modifiers") {
  const auto near = [](index_t, index_t q, index_t k, index_t) { return q - k <= 30; };
  const rule near_before = [=](index_t h, index_t q, index_t k, index_t m) {
    return k <= q && near(h, q, k, m);
  };
  check<bf16>(latent_problem(20, 150, 2), any_pattern(sliding<31>{}), near_before, "sliding");
  problem p = latent_problem(20, 90, 3);
  p.query_offsets = {0, 7, 7, 20};
  p.key_offsets = {0, 20, 25, 90};
  check<bf16>(p, causal{}, causal_rule(), "sequences");
  const problem capped = capped_latent(3, 40, 4);
  check<bf16>(capped, scored<scored<causal, alibi<4>>, soft_cap<2>>{}, causal_rule(), "modifiers");
}

TEST_CASE("attention latent: ranges of keys, a query alone and pages have the bits of the whole") {
  const problem p = latent_problem(3, 1100, 6);
  const data x = draw_latent<bf16>(p, "latent ranges");
  arrays<bf16> whole(p, x), split(p, x), alone(p, x);
  const std::int32_t query_offsets[] = {0, 3}, key_offsets[] = {0, 1100};
  auto spec = spec_of(p, causal{});
  spec.query_offsets = {query_offsets, {2}}, spec.key_offsets = {key_offsets, {2}};
  const roomy one_launch;
  run_rows(one_launch, whole, spec, 0, 3);  // packed: a block has all ranges
  CHECK(one_launch.launches() == 1);
  const cpu two_launches;
  run_rows(two_launches, split, spec_of(p, causal{}), 0, 3);
  CHECK(two_launches.launches() == 2);
  expect_forward(p, whole, oracle_answer(p, x, causal_rule()), case_name(p, "latent ranges"));
  CHECK(same(results(whole, wanted::forward), results(split, wanted::forward)));
  for (index_t i = 0; i < p.n; ++i) {
    auto at = spec_of(p, causal{});
    at.start = p.m - p.n + i;
    run_rows(cpu(), alone, at, i, 1);
  }
  CHECK(same(results(whole, wanted::forward), results(alone, wanted::forward)));
  expect_pages_alike(p, x, whole, causal{},
                     [&](auto& paged, const auto& of) { run_rows(cpu(), paged, of, 0, p.n); });
}

TEST_CASE("attention latent: NaN, queries that see nothing, no keys") {
  const problem p = latent_problem(40, 40, 1);
  data x = draw_latent<bf16>(p, "latent nan");
  arrays<bf16> clean(p, x);
  run_rows(cpu(), clean, spec_of(p, causal{}), 0, p.n);
  constexpr index_t at = 30;
  for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    x.k[static_cast<std::size_t>(at * p.d + 100)] = poison;
    arrays<bf16> a(p, x);
    run_rows(cpu(), a, spec_of(p, causal{}), 0, p.n);
    const auto before = clean.o.values(), now = a.o.values();
    bool same_before = true, there = true;
    for (index_t i = 0; i < p.n; ++i) {
      const auto first = static_cast<std::size_t>(i * p.dv);
      const auto last = first + static_cast<std::size_t>(p.dv);
      for (std::size_t c = first; c < last && i < at; ++c) {
        same_before = same_before && now[c].bits == before[c].bits;
      }
      if (i >= at) there = there && !std::isfinite(static_cast<float>(now[first + 100]));
    }
    CHECK(same_before);
    CHECK(there);
  }
  for (const index_t keys : {0, 4}) {
    const problem few = latent_problem(9, keys, 2);
    arrays<bf16> a(few, draw_latent<bf16>(few, "latent nothing"));
    run_rows(cpu(), a, spec_of(few, causal{}), 0, few.n);
    const auto o = a.o.values();
    const auto lse = a.lse.values();
    bool zero = true;
    for (index_t i = 0; i < (few.n - keys) * few.h; ++i) {
      zero = zero && lse[static_cast<std::size_t>(i)] == -std::numeric_limits<float>::infinity();
      for (index_t c = 0; c < few.dv; ++c) {
        zero = zero && static_cast<float>(o[static_cast<std::size_t>(i * few.dv + c)]) == 0.0F;
      }
    }
    CHECK(zero);
    CHECK(a.clean());
  }
}
