// SPDX-License-Identifier: Apache-2.0
// block<B, Neighbours>: positions are cut into blocks of B; a query sees the keys of its own block
// and of the blocks at a distance of at most Neighbours: |floor(q / B) - floor(k / B)| <=
// Neighbours. Both directions; both<causal, block<B>> looks back only. Cost of a query: (2
// Neighbours + 1) B keys. windowed<W> is its field's name for windows of W that do not overlap:
// floor(q / W) = floor(k / W).
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t B, index_t Neighbours = 0>
struct block {
  static_assert(B >= 1, "deepseek::block: a block has no positions; write block<B> with B >= 1");
  static_assert(Neighbours >= 0,
                "deepseek::block: the number of neighbours is negative; write 0 or more");

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    const index_t apart = floor_divide(q, B) - floor_divide(k, B);
    return apart <= Neighbours && apart >= -Neighbours;
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    const index_t a0 = floor_divide(t.q0, B), a1 = floor_divide(t.q1 - 1, B);
    const index_t b0 = floor_divide(t.k0, B), b1 = floor_divide(t.k1 - 1, B);
    if (b0 - a1 > Neighbours || a0 - b1 > Neighbours) return coverage::none;
    return b1 - a0 <= Neighbours && a1 - b0 <= Neighbours ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t q0, index_t q1, index_t from) {
    const index_t first = (floor_divide(q0, B) - Neighbours) * B;
    const index_t last = (floor_divide(q1 - 1, B) + Neighbours + 1) * B;
    const index_t start = first > from ? first : from;
    return start < last ? key_span{start, last} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    const index_t own = floor_divide(q, B);
    return span_bits((own - Neighbours) * B, (own + Neighbours + 1) * B, k0);
  }
};

template <index_t W>
struct windowed : block<W> {};

}  // namespace deepseek
