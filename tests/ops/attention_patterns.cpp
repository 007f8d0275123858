// SPDX-License-Identifier: Apache-2.0
// attention under every pattern and combinations, forward and backward, against dense oracle
// attention with the same mask; and the tiles that it visits, counted.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_mask.hpp"
#include "deepseek/pattern/random_blocks.hpp"

using namespace attention_test;

namespace {

const problem shapes[] = {
    {.n = 70, .m = 70, .h = 2, .hk = 2, .d = 8, .dv = 8},
    {.n = 33, .m = 140, .h = 4, .hk = 2, .d = 16, .dv = 5},
    {.n = 140, .m = 65, .h = 2, .hk = 1, .d = 5, .dv = 16},
    {.n = 1, .m = 200, .h = 4, .hk = 1, .d = 8, .dv = 8},
    {.n = 150, .m = 150, .h = 3, .hk = 1, .d = 8, .dv = 8, .start = 0},
};

template <class P>
void sweep(const char* label, const P& pattern, const rule& sees) {
  const cpu threaded({.threads = 2});
  for (const problem& p : shapes) {
    const std::string name = text(p, label);
    run<float>(threaded, p, pattern, sees, name + " cpu f32", wanted::gradients);
    run<double>(threaded, p, pattern, sees, name + " cpu f64", wanted::gradients);
    run<double>(reference(), p, pattern, sees, name + " reference f64", wanted::gradients);
  }
}

index_t block_of(index_t position, index_t size) {
  index_t b = position / size;
  return position % size < 0 ? b - 1 : b;
}
rule band_rule(index_t least, index_t most) {
  return [=](index_t, index_t q, index_t k, index_t) { return q - k >= least && q - k <= most; };
}
// The blocks drawn are the pattern's own (tested in tests/pattern); past and everywhere differ.
template <index_t B, index_t R>
rule random_rule(pattern_key key, reach seen) {
  return [=](index_t h, index_t q, index_t k, index_t keys) {
    const random_blocks<B, R> bound{key, {.head = h, .keys = keys, .seen = seen}};
    const auto drawn = bound.draw(block_of(q, B));
    for (std::uint32_t i = 0; i < drawn.count; ++i) {
      if (block_of(k, B) == static_cast<index_t>(drawn.blocks[i])) return true;
    }
    return false;
  };
}

}  // namespace

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
  run<float>(cpu(), p, mask, sees, text(p, "given mask cpu f32"), wanted::gradients);
  run<double>(cpu(), p, mask, sees, text(p, "given mask cpu f64"), wanted::gradients);
  run<double>(reference(), p, mask, sees, text(p, "given mask reference"), wanted::gradients);
}

TEST_CASE("attention patterns: cost follows the tiles kept") {
  using cpu_attention::count_tiles;
  // Tiles of 96 queries by 64 keys. Dense: all of them; causal: those at or below the diagonal.
  CHECK(count_tiles(everyone{}, 960, 640) == 10 * 10);
  CHECK(count_tiles(causal{}, 192, 192) == 2 + 3);
  CHECK(count_tiles(everyone{}, 1, 6400) == 100);
  const auto linear = [](auto pattern, index_t per_query_tile) {
    for (index_t n : {960, 9600, 96000}) {
      const index_t tiles = count_tiles(bind_pattern(pattern, pattern_scope{.keys = n}), n, n);
      CHECK(tiles <= per_query_tile * (n / 96));
      CHECK(tiles >= n / 96);
    }
  };
  linear(local<64>{}, 5);
  linear(sliding<128>{}, 5);
  linear(block<64, 1>{}, 6);
  linear(both<causal, block<64>>{}, 3);
  linear(make_pattern<random_blocks<64, 3>>({1, 2}), 9);
  linear(both<causal, either<local<64>, random_blocks<64, 2>>>{}, 10);
}
