// SPDX-License-Identifier: Apache-2.0
// How attention is cut on the cpu. Keys: tiles of 64 at fixed positions, so that what a query
// computes depends neither on the other queries of its tile nor on how many there are (a batch
// equals its rows, prefill equals decoding, bit for bit). Queries: tiles of at most `most_rows`
// rows; the rows of a tile are its queries times the heads that share one key-value head.
// Key tiles that no row of a query tile sees are not visited.
#pragma once

#include "deepseek/ops/attention.hpp"

#include <algorithm>
#include <bit>

namespace deepseek::cpu_attention {

inline constexpr index_t key_tile = 64;  // one word of row_bits
inline constexpr index_t most_rows =
    64;  // so that blocks of 64 queries that see other keys share no tile

// Queries with lists of blocks are taken one by one where so many heads share a key-value head.
inline constexpr index_t heads_alone = 4;

// The query heads that share one key-value head of one sequence. Row r of a query tile that begins
// at query i0 is query i0 + r / heads, head first + r % heads.
template <class P>
struct head_group {
  const P& pattern;
  attention_range range;
  index_t first, heads;

  // Heads that may see other keys than the first does.
  index_t heads_apart() const { return heads_alike(pattern) ? std::min<index_t>(heads, 1) : heads; }
  P bound(index_t g) const { return bind_pattern(pattern, scope_of(range, first + g)); }
  index_t queries_per_tile() const {
    if (lists_blocks<P> && heads >= heads_alone) return 1;
    return std::max<index_t>(1, most_rows / heads);
  }
  index_t query_tiles() const {
    return (range.queries + queries_per_tile() - 1) / queries_per_tile();
  }
  index_t key_tiles() const { return (range.keys + key_tile - 1) / key_tile; }
};

// The first tile at or after `from` (its first key) that may hold a key some head of queries
// q0 .. q1 - 1 sees; range.keys or more: none.
template <class P>
index_t next_tile(const head_group<P>& group, index_t q0, index_t q1, index_t from) {
  index_t first = no_key;
  for (index_t g = 0; g < group.heads_apart(); ++g) {
    first = std::min(first, next_keys(group.bound(g), q0, q1, from).first);
  }
  return std::max(from, first / key_tile * key_tile);
}

template <class P>
coverage cover_of(const head_group<P>& group, const tile& t) {
  const coverage c = group.bound(0).cover(t);
  for (index_t g = 1; g < group.heads_apart(); ++g) {
    if (group.bound(g).cover(t) != c) return coverage::partial;
  }
  return c;
}

struct coming_tile;

// The tile of a key-value head that begins at key k0; coming: what is asked for meanwhile, if it is
// known (in_place.hpp).
struct key_tile_of {
  index_t kv, k0;
  coming_tile* coming = nullptr;
};

// Keys low .. high - 1.
struct key_range {
  index_t low, high;
};

// f(k0, coverage, next) for the key tiles among `among` that queries i0 .. i1 - 1 of the sequence
// visit, ascending; next: the tile that may come after it (at or beyond the end: none).
template <class P, class F>
void for_each_key_tile(const head_group<P>& group, index_t i0, index_t i1, key_range among, F f) {
  const index_t q0 = group.range.start + i0, q1 = group.range.start + i1;
  const index_t end = std::min(among.high, group.range.keys);
  for (index_t k0 = next_tile(group, q0, q1, among.low), next; k0 < end; k0 = next) {
    next = next_tile(group, q0, q1, k0 + key_tile);
    const coverage c = cover_of(group, {q0, q1, k0, std::min(k0 + key_tile, group.range.keys)});
    if (c != coverage::none) f(k0, c, next);
  }
}

// Tiles visited for one head: what the time of attention is proportional to.
template <class P>
index_t count_tiles(const P& pattern, index_t queries, index_t keys) {
  const head_group<P> group{pattern, {0, queries, 0, keys, keys - queries}, 0, 1};
  index_t count = 0;
  for (index_t i = 0; i < queries; i += group.queries_per_tile()) {
    const index_t end = std::min(i + group.queries_per_tile(), queries);
    for_each_key_tile(group, i, end, {0, keys}, [&](index_t, coverage, index_t) { ++count; });
  }
  return count;
}

// Queries first .. last - 1 of a sequence.
struct query_range {
  index_t first, last;
};

// Which of the 64 keys of a tile each row of some queries sees; keys beyond the sequence are never
// seen.
template <class P>
void visible_rows(const head_group<P>& group, query_range queries, index_t k0, coverage c,
                  std::uint64_t* bits) {
  const index_t count = queries.last - queries.first, heads = group.heads;
  const std::uint64_t there = span_bits(0, group.range.keys, k0);
  if (c == coverage::full) return static_cast<void>(std::fill_n(bits, count * heads, there));
  const tile t{group.range.start + queries.first, group.range.start + queries.last, k0,
               std::min(k0 + key_tile, group.range.keys)};
  std::uint64_t of_head[most_rows];
  for (index_t g = 0; g < group.heads_apart(); ++g) {
    rows_bits(group.bound(g), t, of_head);
    const index_t last = group.heads_apart() == 1 ? heads : g + 1;
    for (index_t i = 0; i < count; ++i) {
      std::fill(bits + i * heads + g, bits + i * heads + last, of_head[i] & there);
    }
  }
}

// Keys low .. high - 1 of a tile hold every bit of `any`, which is not 0.
inline key_range range_of(std::uint64_t any) {
  return {std::countr_zero(any), 64 - std::countl_zero(any)};
}

}  // namespace deepseek::cpu_attention
