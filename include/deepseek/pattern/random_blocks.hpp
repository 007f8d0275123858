// SPDX-License-Identifier: Apache-2.0
// random_blocks<B, R>: positions are cut into blocks of B; each query block sees R key blocks drawn
// without replacement (fewer where there are fewer). It draws from all blocks of the keys; inside a
// both<> that looks back (both<causal, random_blocks<64, 3>>), query block i draws from blocks
// 0 .. i, whatever the length, so that prefill equals decoding. It knows nothing of windows.
// The draw is a function of (seed, site, head, query block) alone: nothing is stored, and every
// machine draws the same. Cost of a query: R B keys.
// Sources: Zaheer et al. 2020 (BigBird), section 2; Salmon et al. 2011 (Philox).
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

// The key blocks that one query block sees.
template <index_t R>
struct drawn_blocks {
  std::uint32_t blocks[R > 0 ? R : 1] = {};
  std::uint32_t count = 0;

  DEEPSEEK_HOST_DEVICE constexpr bool holds(index_t wanted) const {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (static_cast<index_t>(blocks[i]) == wanted) return true;
    }
    return false;
  }
};

template <index_t B, index_t R>
struct random_blocks {
  static_assert(B >= 1, "deepseek::random_blocks: a block has no positions; write B >= 1");
  static_assert(R >= 0 && R <= 4096,
                "deepseek::random_blocks: R is not in 0 .. 4096 (all blocks drawn are compared "
                "with each other); write fewer, larger blocks");

  pattern_key key;
  pattern_scope scope;

  static constexpr random_blocks make(const pattern_key& from) { return {from, {}}; }
  DEEPSEEK_HOST_DEVICE constexpr random_blocks bind(const pattern_scope& to) const {
    return {key, to};
  }

  DEEPSEEK_HOST_DEVICE constexpr drawn_blocks<R> draw(index_t query_block) const {
    const index_t blocks = scope.seen == reach::past ? query_block + 1 : (scope.keys + B - 1) / B;
    drawn_blocks<R> out;
    if (blocks <= 0) return out;
    const stream_key stream =
        pattern_stream(key.seed, key.site, static_cast<std::uint32_t>(scope.head),
                       static_cast<std::uint32_t>(query_block));
    out.count = sample_without_replacement(stream, static_cast<std::uint32_t>(blocks),
                                           static_cast<std::uint32_t>(R), out.blocks);
    return out;
  }

  DEEPSEEK_HOST_DEVICE constexpr bool visible(index_t q, index_t k) const {
    return draw(floor_divide(q, B)).holds(floor_divide(k, B));
  }
  DEEPSEEK_HOST_DEVICE constexpr coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t a = floor_divide(t.q0, B); a <= floor_divide(t.q1 - 1, B); ++a) {
      const auto drawn = draw(a);
      for (index_t k = floor_divide(t.k0, B); k <= floor_divide(t.k1 - 1, B); ++k) {
        drawn.holds(k) ? some = true : all = false;
      }
      if (some && !all) return coverage::partial;
    }
    return all ? coverage::full : some ? coverage::partial : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(index_t q0, index_t q1, index_t from) const {
    key_span next;
    for (index_t a = floor_divide(q0, B); a <= floor_divide(q1 - 1, B); ++a) {
      const auto drawn = draw(a);
      for (std::uint32_t i = 0; i < drawn.count; ++i) {
        const index_t first = static_cast<index_t>(drawn.blocks[i]) * B, last = first + B;
        if (last > from && first < next.first) next = {first, last};
      }
    }
    if (next.first < from) next.first = from;
    return next;
  }
  DEEPSEEK_HOST_DEVICE static constexpr bool alike(index_t a, index_t b) {
    return floor_divide(a, B) == floor_divide(b, B);
  }
  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(index_t q, index_t k0) const {
    const auto drawn = draw(floor_divide(q, B));
    std::uint64_t bits = 0;
    for (std::uint32_t i = 0; i < drawn.count; ++i) {
      const index_t first = static_cast<index_t>(drawn.blocks[i]) * B;
      bits |= span_bits(first, first + B, k0);
    }
    return bits;
  }
};

}  // namespace deepseek
