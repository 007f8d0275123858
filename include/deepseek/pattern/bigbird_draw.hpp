// SPDX-License-Identifier: Apache-2.0
// Which random key blocks a query block of BigBird sees, for sizes known at run time: of n blocks,
// query block i (neither the first nor the last) draws R without replacement, never from its window
// i - 1 .. i + 1, nor block 0. The draw is a function of (seed, site, head, i) alone.
//   even        from all blocks; the last is left out, for i = 1 also n - 2, for i = n - 2 also 1
//   published   as the published code: it draws from the first blocks of the sequence only.
//               Lengths 1024, 2048, 3072 and 4096: from blocks 1 .. 1024 / B - 1. Else, with
//               m = 2 R + 5 < n: from the first m blocks, as if they were all; with m = R + 5 < n:
//               R / 2 from the first m, the others from the rest; else as even.
//   past        length unknown, nothing later exists: from blocks 1 .. i - 2
// Where a range holds fewer than it should give, all of them are taken (the published code fails).
// Source: Zaheer et al. 2020 (BigBird), appendix D, and its published code, of which the random
// generator alone differs: there NumPy's permutation, here Philox.
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

enum class bigbird_draws { even, published };

// Some of the draws of one row: `count` of blocks first .. last - 1, without its window and the
// blocks named.
struct bigbird_range {
  index_t first = 0, last = 0, count = 0;
  bool ends = true;  // leave out block 0, the last one and the two special ones
};

struct bigbird_sizes {
  index_t block = 64, random = 3;
  bigbird_draws form = bigbird_draws::even;

  // The ranges of query block i of n; returns how many there are.
  DEEPSEEK_HOST_DEVICE constexpr int ranges(index_t i, index_t n, reach seen,
                                            bigbird_range (&out)[2]) const {
    if (seen == reach::past) {
      out[0] = {1, i - 1, random, false};
      return 1;
    }
    const index_t length = n * block;
    out[0] = {0, n, random};
    if (form == bigbird_draws::even) return 1;
    if (length == 1024 || length == 2048 || length == 3072 || length == 4096) {
      out[0] = {1, 1024 / block, random, false};
      return 1;
    }
    if (2 * random + 5 < n) {
      out[0] = {0, 2 * random + 5, random};
      return 1;
    }
    if (random + 5 >= n) return 1;
    out[0] = {0, random + 5, random / 2};
    out[1] = {random + 5, n, random - random / 2};
    return 2;
  }

  // The drawn blocks of query block i, at most `random`; returns how many. i is neither 0 nor, in
  // both directions, n - 1.
  DEEPSEEK_HOST_DEVICE constexpr std::uint32_t draw(const pattern_key& key,
                                                    const pattern_scope& scope, index_t i,
                                                    std::uint32_t* out) const {
    bigbird_range ranges_of_row[2];
    const index_t n = (scope.keys + block - 1) / block;
    const int parts = ranges(i, n, scope.seen, ranges_of_row);
    std::uint32_t count = 0;
    for (int p = 0; p < parts; ++p) {
      const auto lane = static_cast<std::uint32_t>(i) | (p == 0 ? 0U : std::uint32_t{1} << 31U);
      count += draw_from(
          ranges_of_row[p], i,
          pattern_stream(key.seed, key.site, static_cast<std::uint32_t>(scope.head), lane),
          out + count);
    }
    return count;
  }

 private:
  // The blocks that may not be drawn, ascending, each once.
  struct left_out {
    index_t blocks[8] = {};
    int count = 0;

    DEEPSEEK_HOST_DEVICE constexpr void add(index_t b, const bigbird_range& r) {
      if (b < r.first || b >= r.last) return;
      int at = 0;
      while (at < count && blocks[at] < b) ++at;
      if (at < count && blocks[at] == b) return;
      for (int j = count; j > at; --j) blocks[j] = blocks[j - 1];
      blocks[at] = b;
      ++count;
    }
  };

  DEEPSEEK_HOST_DEVICE static constexpr std::uint32_t draw_from(const bigbird_range& r, index_t i,
                                                                const stream_key& stream,
                                                                std::uint32_t* out) {
    left_out none;
    for (index_t b = i - 1; b <= i + 1; ++b) none.add(b, r);
    if (r.ends) {
      none.add(0, r);
      none.add(r.last - 1, r);
      if (i == 1) none.add(r.last - 2, r);
      if (i == r.last - 2) none.add(1, r);
    }
    const index_t allowed = r.last - r.first - none.count;
    if (allowed <= 0) return 0;
    const std::uint32_t count = sample_without_replacement(
        stream, static_cast<std::uint32_t>(allowed), static_cast<std::uint32_t>(r.count), out);
    for (std::uint32_t d = 0; d < count; ++d) {
      index_t b = r.first + static_cast<index_t>(out[d]);
      for (int j = 0; j < none.count; ++j) {
        if (b >= none.blocks[j]) ++b;
      }
      out[d] = static_cast<std::uint32_t>(b);
    }
    return count;
  }
};

}  // namespace deepseek
