// SPDX-License-Identifier: Apache-2.0
// attention under patterns along the diagonal and of blocks against dense oracle attention with the
// same mask; and its cost: tiles visited and memory, counted.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"

using namespace attention_test;

TEST_CASE("attention patterns: along the diagonal") {
  sweep("local", local<9>{}, band_rule(-9, 9));
  sweep("local0", local<0>{}, band_rule(0, 0));
  sweep("sliding", sliding<20>{}, band_rule(0, 19));
  sweep("wider than the keys", local<1000>{}, all_rule());
}

TEST_CASE("attention patterns: blocks") {
  sweep("block", block<24>{},
        [](index_t, index_t q, index_t k, index_t) { return block_of(q, 24) == block_of(k, 24); });
  sweep("neighbours", block<16, 1>{}, [](index_t, index_t q, index_t k, index_t) {
    const index_t apart = block_of(q, 16) - block_of(k, 16);
    return apart >= -1 && apart <= 1;
  });
}

TEST_CASE("attention patterns: cost follows the tiles kept") {
  using cpu_attention::count_tiles;
  // Tiles of 64 queries by 64 keys. Dense: all of them; causal: those at or below the diagonal.
  CHECK(count_tiles(everyone{}, 960, 640) == 15 * 10);
  CHECK(count_tiles(causal{}, 192, 192) == 1 + 2 + 3);
  CHECK(count_tiles(everyone{}, 1, 6400) == 100);
  const auto linear = [](auto pattern, index_t per_query_tile) {
    for (index_t n : {960, 9600, 96000}) {
      const index_t tiles = count_tiles(bind_pattern(pattern, pattern_scope{.keys = n}), n, n);
      CHECK(tiles <= per_query_tile * (n / 64));
      CHECK(tiles >= n / 64);
    }
  };
  linear(local<64>{}, 3);
  linear(sliding<128>{}, 3);
  linear(block<64, 1>{}, 3);
  linear(both<causal, block<64>>{}, 1);
  linear(make_pattern<random_blocks<64, 3>>({1, 2}), 3);
  linear(both<causal, either<local<64>, random_blocks<64, 2>>>{}, 4);
}

TEST_CASE("attention patterns: memory is linear in the sequence") {
  const auto peak = [](index_t n) {
    const problem p{.n = n, .m = n, .h = 1, .hk = 1, .d = 8, .dv = 8};
    arrays<float> a(p, draw<float>(p, "memory"));
    const cpu b({.threads = 2});  // few heads: packed keys are in the workspace
    a.forward(b, spec_of(p, local<4>{}));
    a.backward(b, spec_of(p, local<4>{}));
    return b.workspace().bytes_peak();
  };
  const std::size_t small = peak(640), large = peak(6400);
  CHECK(small > 640 * 16 * sizeof(float));
  CHECK(large <= 11 * small);
  CHECK(large < 6400 * 6400 / 8);
}
