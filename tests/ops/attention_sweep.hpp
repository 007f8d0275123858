// SPDX-License-Identifier: Apache-2.0
// One pattern, forward and backward, on both backends in two types, over several shapes; and the
// rules that the patterns are held against.
#pragma once

#include "ops/attention_case.hpp"

#include "deepseek/pattern/random_blocks.hpp"

namespace attention_test {

inline const problem shapes[] = {
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
    const std::string name = case_name(p, label);
    run<float>(threaded, p, pattern, sees, name + " cpu f32", wanted::gradients);
    run<double>(threaded, p, pattern, sees, name + " cpu f64", wanted::gradients);
    run<double>(reference(), p, pattern, sees, name + " reference f64", wanted::gradients);
  }
}

inline index_t block_of(index_t position, index_t size) {
  index_t b = position / size;
  return position % size < 0 ? b - 1 : b;
}
inline rule band_rule(index_t least, index_t most) {
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

}  // namespace attention_test
