// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores, simulated, under patterns of which each head is bound, which hide
// tiles and parts of tiles; packed sequences; f16.
#include "simulation/attention_tensor_case.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"

using namespace attention_test;

namespace {

// Sees every third key but its own block of 20: no next_keys, no row_bits.
struct every_third {
  static bool visible(index_t q, index_t k) { return (q + k) % 3 == 0 && q / 20 != k / 20; }
  static coverage cover(const tile&) { return coverage::partial; }
};
rule third_rule() {
  return
      [](index_t, index_t q, index_t k, index_t) { return (q + k) % 3 == 0 && q / 20 != k / 20; };
}
rule near_rule(index_t most) {
  return [=](index_t, index_t q, index_t k, index_t) { return q - k <= most && k - q <= most; };
}

}  // namespace

TEST_CASE("attention tensor cores: patterns") {
  const cpu b;
  for (int widths : {0, 1, 2, 3}) {
    const problem p = tensor_problem(70, 150, widths, widths);
    run<bf16>(b, p, any_pattern(everyone{}), all_rule(), case_name(p, "everyone"),
              wanted::gradients);
    run<bf16>(b, p, any_pattern(every_third{}), third_rule(), case_name(p, "third"),
              wanted::gradients);
  }
  problem p = tensor_problem(300, 300, 0, 1);
  run<bf16>(b, p, any_pattern(local<30>{}), near_rule(30), case_name(p, "local"),
            wanted::gradients);
  p.query_offsets = {0, 100, 100, 300};
  p.key_offsets = {0, 80, 90, 300};
  run<bf16>(b, p, any_pattern(causal{}), causal_rule(), case_name(p, "sequences"),
            wanted::gradients);
}

TEST_CASE("attention tensor cores: f16") {
  const problem p = tensor_problem(70, 90, 0, 1);
  run<f16>(cpu(), p, any_pattern(causal{}), causal_rule(), case_name(p, "f16"), wanted::gradients);
}

TEST_CASE("attention tensor cores: ranges of keys that are hidden") {
  const cpu b;
  // Each query sees one key of the first range and none of the others.
  problem p = tensor_problem(2, 1100, 0, 0);
  p.start = 30;
  const data x = draw<bf16>(p, "hidden");
  arrays<bf16> a(p, x);
  a.forward(b, spec_of(p, any_pattern(sliding<1>{})));
  const rule sees = [](index_t, index_t q, index_t k, index_t) { return k == q; };
  expect_forward(p, a, oracle_answer(p, x, sees), case_name(p, "hidden"));
}
