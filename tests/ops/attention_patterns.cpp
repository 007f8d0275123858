// SPDX-License-Identifier: Apache-2.0
// attention under patterns along the diagonal and of blocks against dense oracle attention with the
// same mask. Its cost: attention_cost.cpp.
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
