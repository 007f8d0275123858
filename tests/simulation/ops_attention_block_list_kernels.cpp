// SPDX-License-Identifier: Apache-2.0
// Patterns that are written out (pattern block_list) on tensor cores and on warp groups, plain
// heads and values that are the beginnings of their keys: the bits of the patterns themselves, with
// lists for each head and one for all, ranges of keys, packed sequences.
#include "simulation/attention_latent_case.hpp"
#include "simulation/attention_tensor_case.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/list_blocks.hpp"
#include "deepseek/pattern/random_blocks.hpp"

using namespace attention_test;
using simulation::groups;
using simulation::simulated;

namespace {

// A predicate with state, which leaves out whole tiles and parts of tiles.
struct listed_predicate {
  index_t n = 3;
  bool visible(index_t q, index_t k) const { return (q + k) % n == 0 && k / 64 % 3 != 1; }
  coverage cover(const tile&) const { return coverage::partial; }
};

// Every pattern as any_pattern, so that kernels are compiled for it and for the list alone.
any_pattern drawn_for_kernels() {
  using blocks = both<causal, either<local<30>, random_blocks<16, 3>>>;
  return any_pattern(make_pattern<blocks>({.seed = 4, .site = 2}));
}

template <class T>
struct one_run {
  arrays<T> a;
  one_run(const problem& p, const data& x) : a(p, x) {}

  template <class B, class P>
  auto both_ways(const B& b, const problem& p, const P& pattern) {
    a.forward(b, spec_of(p, pattern));
    a.backward(b, spec_of(p, pattern));
    return results(a, wanted::gradients);
  }
  template <class B, class P>
  auto values_in_keys(const B& b, const problem& p, const P& pattern) {
    ops::attention(b, latent_inputs_of(a, 0, p.n), attention_outputs{a.o.get(), a.lse_view()},
                   spec_of(p, pattern));
    return results(a, wanted::forward);
  }
};

block_list_sizes kernel_sizes(const problem& p, index_t heads) {
  return {.queries = p.n, .keys = p.m, .heads = heads, .start = p.m - p.n};
}
void expect_bits(bool alike, const problem& p, const char* what) {
  support::expect_true("attention", case_name(p, what), alike,
                       "a written pattern gives other bits than the pattern");
}

void plain_heads(const problem& p, const any_pattern& pattern, const block_list_sizes& sizes) {
  const auto tables = list_blocks(pattern, sizes);
  const block_list list(tables);
  const data x = draw<bf16>(p, "listed kernels");
  using of = one_run<bf16>;
  expect_bits(same(of(p, x).both_ways(cpu(), p, pattern), of(p, x).both_ways(cpu(), p, list)), p,
              "tensor cores listed");
  const index_t before = simulation::maps_made();
  expect_bits(same(of(p, x).both_ways(groups(), p, pattern), of(p, x).both_ways(groups(), p, list)),
              p, "warp groups listed");
  if (simulated && p.d != 96) CHECK(simulation::maps_made() == before + 6);
}

void latent_heads(const problem& p, const any_pattern& pattern, index_t heads) {
  const auto tables = list_blocks(pattern, kernel_sizes(p, heads));
  const block_list list(tables);
  const data x = draw_latent<bf16>(p, "listed latents");
  using of = one_run<bf16>;
  expect_bits(
      same(of(p, x).values_in_keys(cpu(), p, pattern), of(p, x).values_in_keys(cpu(), p, list)), p,
      "latents listed");
  const index_t before = simulation::maps_made();
  expect_bits(same(of(p, x).values_in_keys(groups(), p, pattern),
                   of(p, x).values_in_keys(groups(), p, list)),
              p, "latents listed, warp groups");
  if (simulated) CHECK(simulation::maps_made() > before);
}

}  // namespace

TEST_CASE("attention block list kernels: plain heads") {
  const any_pattern odd(listed_predicate{3});
  for (int widths : {0, 1, 2}) {
    const problem p = tensor_problem(70, 300, widths, widths + 1);
    plain_heads(p, odd, kernel_sizes(p, 1));
    plain_heads(p, drawn_for_kernels(), kernel_sizes(p, p.h));
  }
  const problem ranges = tensor_problem(2, 1100, 2, 1);  // ranges of keys, their blocks apart
  plain_heads(ranges, odd, kernel_sizes(ranges, 1));
  problem rows = tensor_problem(150, 300, 0, 1);
  rows.query_offsets = {0, 50, 50, 150};
  rows.key_offsets = {0, 80, 90, 300};
  plain_heads(rows, drawn_for_kernels(), {.queries = 220, .keys = 210, .heads = 2, .start = -10});
}

TEST_CASE("attention block list kernels: values that are the beginnings of keys") {
  latent_heads(latent_problem(9, 200, 4), any_pattern(listed_predicate{3}), 1);
  latent_heads(latent_problem(9, 200, 4), drawn_for_kernels(), 4);
  latent_heads(latent_problem(1, 700, 16, 512), any_pattern(listed_predicate{5}), 1);
}
