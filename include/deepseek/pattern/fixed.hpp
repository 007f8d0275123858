// SPDX-License-Identifier: Apache-2.0
// fixed<L, C, V>: positions are cut into blocks of L; a query sees its own block and, of every
// block, C summary columns. Head h takes vertical v = h mod V: columns L - (v + 1) C .. L - v C - 1
// of each block, so that heads summarize by different tokens. Both directions; both<causal, fixed>
// is the published pattern (its summaries are those of earlier blocks). Cost of a query: L + C n /
// L keys. Source: Child et al. 2019 (Sparse Transformer), section 4.3, and its published code.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t L, index_t C = 1, index_t V = 1>
struct fixed {
  static_assert(L >= 1, "deepseek::fixed: a block has no positions; write fixed<L, C>, L >= 1");
  static_assert(C >= 1 && V >= 1 && C * V <= L,
                "deepseek::fixed: the verticals of all heads do not fit into a block (V verticals "
                "of C columns each); write fixed<L, C, V> with C V <= L");
  index_t head = 0;

  DEEPSEEK_HOST_DEVICE constexpr fixed bind(const pattern_scope& scope) const {
    return {scope.head};
  }

  DEEPSEEK_HOST_DEVICE constexpr bool visible(index_t q, index_t k) const {
    const index_t block = floor_divide(k, L);
    return block == floor_divide(q, L) || (k - block * L >= low() && k - block * L < low() + C);
  }
  DEEPSEEK_HOST_DEVICE constexpr coverage cover(const tile& t) const {
    const index_t a0 = floor_divide(t.q0, L), a1 = floor_divide(t.q1 - 1, L);
    const index_t own = a0 * L, end = own + L;  // the one block of all queries, if it is one
    const bool full = a0 == a1 ? summaries(t.k0, t.k1 < own ? t.k1 : own) &&
                                     summaries(t.k0 > end ? t.k0 : end, t.k1)
                               : summaries(t.k0, t.k1);
    if (full) return coverage::full;
    const bool meet = floor_divide(t.k0, L) <= a1 && floor_divide(t.k1 - 1, L) >= a0;
    return meet || summary_from(t.k0).first < t.k1 ? coverage::partial : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(index_t q0, index_t q1, index_t from) const {
    const index_t first = floor_divide(q0, L) * L, last = (floor_divide(q1 - 1, L) + 1) * L;
    const index_t start = first > from ? first : from;
    const key_span column = summary_from(from);
    return start < last && start <= column.first ? key_span{start, last} : column;
  }
  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(index_t q, index_t k0) const {
    const index_t own = floor_divide(q, L) * L;
    std::uint64_t bits = span_bits(own, own + L, k0);
    for (key_span s = summary_from(k0); s.first < k0 + 64; s = summary_from(s.last)) {
      bits |= span_bits(s.first, s.last, k0);
    }
    return bits;
  }

 private:
  // The first summary column of a block.
  DEEPSEEK_HOST_DEVICE constexpr index_t low() const { return L - (head % V + 1) * C; }
  // The first run of summary columns at or after k.
  DEEPSEEK_HOST_DEVICE constexpr key_span summary_from(index_t k) const {
    const index_t block = floor_divide(k, L) * L, first = block + low();
    if (k >= first + C) return {first + L, first + L + C};
    return {first > k ? first : k, first + C};
  }
  // Keys first .. last - 1 are summary columns, all of them (there may be none).
  DEEPSEEK_HOST_DEVICE constexpr bool summaries(index_t first, index_t last) const {
    if (first >= last || C == L) return true;
    const key_span s = summary_from(first);
    return s.first == first && last <= s.last;
  }
};

}  // namespace deepseek
