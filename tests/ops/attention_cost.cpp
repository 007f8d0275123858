// SPDX-License-Identifier: Apache-2.0
// What attention costs on the cpu: tiles visited and memory, counted.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/random_blocks.hpp"

using namespace attention_test;

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

TEST_CASE("attention index_set: cost follows the tiles that hold listed keys") {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 960; ++i) {
    ids.insert(ids.end(), {3, 70 + i % 60, 9000, -1});
  }
  const view<const std::int32_t, host, dyn, dyn> table(ids.data(), {960, 4});
  for (const index_order how : {index_order::ascending, index_order::any}) {
    const index_set pattern(table, how);
    const cpu_attention::head_group<index_set> group{pattern, {0, 960, 0, 96000, 0}, 0, 1};
    index_t tiles = 0;
    for (index_t i = 0; i < 960; i += 64) {
      cpu_attention::for_each_key_tile(group, i, i + 64, {0, 96000},
                                       [&](index_t, coverage, index_t) { ++tiles; });
    }
    // Keys 3, 9000, and of 70 .. 127 and 128 .. 129 what some query of the tile lists.
    index_t expected = 0;
    for (index_t i = 0; i < 960; i += 64) {
      bool low = false, high = false;
      for (index_t q = i; q < i + 64; ++q) (70 + q % 60 < 128 ? low : high) = true;
      expected += 2 + (low ? 1 : 0) + (high ? 1 : 0);
    }
    CHECK(tiles == expected);
  }
}
