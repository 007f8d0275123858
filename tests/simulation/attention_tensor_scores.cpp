// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores, simulated, with score modifiers.
#include "simulation/attention_tensor_case.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

TEST_CASE("attention tensor cores: score modifiers") {
  const cpu b;
  problem capped = tensor_problem(40, 70, 2, 1);
  capped.change = [](index_t h, index_t q, index_t k, double s) {
    const double biased =
        s - std::exp2(-4.0 * static_cast<double>(h + 1)) * static_cast<double>(q - k);
    const double wide = std::cosh(biased / 2);
    return oracle::changed_score{2 * std::tanh(biased / 2), 1 / (wide * wide)};
  };
  const scored<scored<causal, alibi<2>>, soft_cap<2>> pattern;
  run<bf16>(b, capped, pattern, causal_rule(), case_name(capped, "modifiers"), wanted::gradients);
}

TEST_CASE("attention: heads wider than the columns of a block") {
  const problem p{.n = 20, .m = 70, .h = 2, .hk = 1, .d = 300, .dv = 270};
  run<double>(cpu(), p, causal{}, causal_rule(), case_name(p, "wide"), wanted::gradients);
}
