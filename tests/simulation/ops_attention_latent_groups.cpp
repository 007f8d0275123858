// SPDX-License-Identifier: Apache-2.0
// Attention whose values are the beginnings of their keys, on warp groups (sm_90a): the answers are
// the oracle's, over rows and keys around every tile edge, patterns, packed sequences, score
// modifiers; ranges of keys, a query alone and pages have the bits of the whole; values that are
// not finite, queries that see nothing.
#include "simulation/attention_latent_case.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/random_blocks.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;
using simulation::groups;
using simulation::simulated;

namespace {

// Queries first .. first + n - 1 of the problem; warp groups took them.
template <class T, class Spec>
void run_rows(arrays<T>& a, const Spec& spec, index_t first, index_t n) {
  const index_t before = simulation::maps_made();
  ops::attention(groups(), latent_inputs_of(a, first, n),
                 attention_outputs{rows(a.o.get(), first, n), rows(a.lse_view(), first, n)}, spec);
  if (simulated) CHECK(simulation::maps_made() > before);
}
template <class T, class P>
void check(const problem& p, const P& pattern, const rule& sees, const std::string& name) {
  const data x = draw_latent<T>(p, name);
  arrays<T> a(p, x);
  run_rows(a, spec_of(p, pattern), 0, p.n);
  expect_forward(p, a, oracle_answer(p, x, sees), case_name(p, name));
  CHECK_MESSAGE(a.clean(), case_name(p, name));
}
// Each query of one sequence by itself.
template <class T, class P>
void expect_alone(const problem& p, const data& x, const P& pattern, arrays<T>& whole) {
  arrays<T> alone(p, x);
  for (index_t i = 0; i < p.n; ++i) {
    auto at = spec_of(p, pattern);
    at.start = p.m - p.n + i;
    run_rows(alone, at, i, 1);
  }
  CHECK(same(results(whole, wanted::forward), results(alone, wanted::forward)));
}

// Queries first .. end - 1 see key `at`, which is not finite; the others keep their bits.
template <class P>
void expect_poison(const problem& p, const P& pattern, index_t at, index_t first, index_t end) {
  data x = draw_latent<bf16>(p, "latent group nan");
  arrays<bf16> clean(p, x);
  run_rows(clean, spec_of(p, pattern), 0, p.n);
  const auto before = clean.o.values();
  for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    x.k[static_cast<std::size_t>(at * p.d + 300)] = poison;
    arrays<bf16> a(p, x);
    run_rows(a, spec_of(p, pattern), 0, p.n);
    const auto now = a.o.values();
    bool kept = true, there = true;
    for (index_t i = 0; i < p.n; ++i) {
      const auto row = static_cast<std::size_t>(i * p.dv);
      if (i >= first && i < end) {
        there = there && !std::isfinite(static_cast<float>(now[row + 300]));
        continue;
      }
      for (std::size_t c = row; c < row + static_cast<std::size_t>(p.dv); ++c) {
        const float was = before[c], is = now[c];
        kept = kept && (simulated ? was == is : std::fabs(was - is) < 0.05F);
      }
    }
    CHECK(kept);
    CHECK(there);
  }
}

}  // namespace

TEST_CASE("latent warp groups: causal, against the oracle") {
  constexpr index_t queries[] = {1, 2, 5}, keys[] = {1, 63, 64, 65, 130, 200};
  constexpr index_t heads[] = {1, 16, 20, 33, 64, 70};
  for (const auto& row : support::pairwise({3, 6, 6}, 14)) {
    check<bf16>(latent_problem(queries[row[0]], keys[row[1]], heads[row[2]]), causal{},
                causal_rule(), "latent groups bf16");
  }
  check<f16>(latent_problem(2, 70, 16), causal{}, causal_rule(), "latent groups f16");
  check<bf16>(latent_problem(2, 70, 64, 512), causal{}, causal_rule(), "shared groups bf16");
  check<bf16>(latent_problem(70, 140, 2), any_pattern(causal{}), causal_rule(), "rows");
}

TEST_CASE("latent warp groups: patterns, packed sequences, score modifiers") {
  const rule near_before = [](index_t, index_t q, index_t k, index_t) {
    return k <= q && q - k <= 30;
  };
  const problem far = latent_problem(200, 300, 2);
  check<bf16>(far, any_pattern(sliding<31>{}), near_before, "near");
  problem p = latent_problem(20, 90, 3);
  p.query_offsets = {0, 7, 7, 20};
  p.key_offsets = {0, 20, 25, 90};
  check<bf16>(p, causal{}, causal_rule(), "sequences");
  const problem capped = capped_latent(3, 140, 4);
  check<bf16>(capped, scored<scored<causal, alibi<4>>, soft_cap<2>>{}, causal_rule(), "modifiers");
}

TEST_CASE(
    "latent warp groups: ranges of keys, a query alone and pages have the bits of the whole") {
  const problem p = latent_problem(3, 1100, 6);
  const data x = draw_latent<bf16>(p, "latent group ranges");
  arrays<bf16> whole(p, x), split(p, x);
  const std::int32_t query_offsets[] = {0, 3}, key_offsets[] = {0, 1100};
  auto spec = spec_of(p, causal{});
  spec.query_offsets = {query_offsets, {2}}, spec.key_offsets = {key_offsets, {2}};
  run_rows(whole, spec, 0, 3);  // packed: a block has all ranges
  run_rows(split, spec_of(p, causal{}), 0, 3);
  expect_forward(p, whole, oracle_answer(p, x, causal_rule()), case_name(p, "latent group ranges"));
  CHECK(same(results(whole, wanted::forward), results(split, wanted::forward)));
  expect_alone(p, x, causal{}, whole);
  expect_pages_alike(p, x, whole, causal{},
                     [&](auto& paged, const auto& of) { run_rows(paged, of, 0, p.n); });
}

TEST_CASE("latent warp groups: which tiles other rows need changes no bit") {
  // A block of all queries goes over tiles that one query skips, so turns fall otherwise.
  const problem p = latent_problem(24, 700, 3);
  const data x = draw_latent<bf16>(p, "latent group turns");
  const auto blocks = any_pattern(make_pattern<random_blocks<64, 3>>({.seed = 5, .site = 3}));
  arrays<bf16> near(p, x), bound(p, x);
  run_rows(near, spec_of(p, any_pattern(local<40>{})), 0, p.n);
  expect_alone(p, x, any_pattern(local<40>{}), near);
  run_rows(bound, spec_of(p, blocks), 0, p.n);
  expect_alone(p, x, blocks, bound);
}

TEST_CASE("latent warp groups: values that are not finite, queries that see nothing") {
  // Key 100, and key 500 of the first of two ranges, are hidden from some queries of their block.
  expect_poison(latent_problem(70, 130, 1), causal{}, 100, 40, 70);
  const problem two = latent_problem(70, 550, 1);
  expect_poison(two, any_pattern(local<40>{}), 500, 0, 61);
  problem packed = two;
  packed.query_offsets = {0, 70}, packed.key_offsets = {0, 550};
  expect_poison(packed, any_pattern(local<40>{}), 500, 0, 61);
  const problem few = latent_problem(9, 4, 2);
  arrays<bf16> a(few, draw_latent<bf16>(few, "latent group nothing"));
  run_rows(a, spec_of(few, causal{}), 0, few.n);
  const auto o = a.o.values();
  const auto lse = a.lse.values();
  bool zero = true;
  for (index_t i = 0; i < (few.n - few.m) * few.h; ++i) {
    zero = zero && lse[static_cast<std::size_t>(i)] == -std::numeric_limits<float>::infinity();
    for (index_t c = 0; c < few.dv; ++c) {
      zero = zero && static_cast<float>(o[static_cast<std::size_t>(i * few.dv + c)]) == 0.0F;
    }
  }
  CHECK(zero);
  CHECK(a.clean());
}
