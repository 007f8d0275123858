// SPDX-License-Identifier: Apache-2.0
// attention under random blocks, combined patterns and a given mask against dense oracle attention
// with the same mask.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_mask.hpp"

using namespace attention_test;

TEST_CASE("attention patterns: random blocks") {
  const pattern_key key{42, 7};
  sweep("random", make_pattern<random_blocks<16, 2>>(key),
        random_rule<16, 2>(key, reach::everywhere));
  sweep("none drawn", make_pattern<random_blocks<16, 0>>(key),
        [](index_t, index_t, index_t, index_t) { return false; });
}

TEST_CASE("attention patterns: combined") {
  const pattern_key key{5, 1};
  const auto drawn = random_rule<16, 1>(key, reach::past);
  using mixed = both<causal, either<local<5>, random_blocks<16, 1>>>;
  sweep("mixed", make_pattern<mixed>(key), [&](index_t h, index_t q, index_t k, index_t keys) {
    return k <= q && (q - k <= 5 || drawn(h, q, k, keys));
  });
  sweep("causal block", both<causal, block<24>>{}, [](index_t, index_t q, index_t k, index_t) {
    return k <= q && block_of(q, 24) == block_of(k, 24);
  });
}

TEST_CASE("attention patterns: a given mask") {
  support::numbers from("mask");
  std::vector<std::uint8_t> table(90 * 75);
  for (auto& e : table) e = from.below(3) == 0;
  const given_mask mask(view<const std::uint8_t, host, dyn, dyn>(table.data(), {90, 75}));
  problem p{.n = 90, .m = 75, .h = 2, .hk = 1, .d = 8, .dv = 8, .start = 0};
  const rule sees = [&](index_t, index_t q, index_t k, index_t) {
    return table[static_cast<std::size_t>(q * 75 + k)] != 0;
  };
  run<float>(cpu(), p, mask, sees, case_name(p, "given mask cpu f32"), wanted::gradients);
  run<double>(cpu(), p, mask, sees, case_name(p, "given mask cpu f64"), wanted::gradients);
  run<double>(reference(), p, mask, sees, case_name(p, "given mask reference"), wanted::gradients);
}
