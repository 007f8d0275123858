// SPDX-License-Identifier: Apache-2.0
// How attention is cut on the device. Keys: tiles of 64 at fixed positions, so that what a query
// computes depends neither on its neighbours nor on how many there are. Rows: the queries of a tile
// times the heads that share one key-value head. A block finds its sequence by itself, so that no
// offset is read on the host; it asks the pattern for the key tiles, so that what nobody sees is
// not read.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/ops/attention.hpp"
#include "deepseek/pattern/score.hpp"

namespace deepseek::cuda_attention {

inline constexpr int key_tile = 64;  // one word of row_bits

// Rows and positions of one sequence, as attention_range, in any memory.
template <class S>
struct sequence {
  index_t query = 0, queries = 0, key = 0, keys = 0, start = 0;
  page_table<S> pages = {};

  DEEPSEEK_HOST_DEVICE index_t key_row(index_t j) const {
    return pages.size == 0 ? key + j : pages.pages(j / pages.size) * pages.size + j % pages.size;
  }
  DEEPSEEK_HOST_DEVICE pattern_scope scope(index_t head) const {
    pattern_scope s;
    s.head = head;
    s.keys = keys;
    s.row = query;
    s.start = start;
    return s;
  }
};

template <class P, class S>
DEEPSEEK_HOST_DEVICE sequence<S> sequence_at(const attention_spec<P, S>& spec, index_t s,
                                             index_t queries, index_t keys) {
  sequence<S> r;
  r.queries = queries;
  r.keys = keys;
  r.start = spec.start;
  if (spec.query_offsets.extent(0) > 0) {
    r.query = spec.query_offsets(s);
    r.queries = spec.query_offsets(s + 1) - r.query;
    r.key = spec.key_offsets(s);
    r.keys = spec.key_offsets(s + 1) - r.key;
  }
  if (spec.pages.size > 0) r.keys = spec.keys;
  r.pages = spec.pages;
  if (r.start < 0) r.start = r.keys - r.queries;
  if (spec.start_at.extent(0) > 0) {
    r.start = spec.start_at(0);
    const index_t there = (r.start + queries) / spec.ratio;
    r.keys = there < keys ? there : keys;
  }
  return r;
}

// Tiles of `size` rows over packed sequences. Sequence s has the slots from offsets(s) / size + s
// up to those of the next, one too many at most: their number is known without reading offsets.
struct slot {
  index_t sequence, tile;
};
template <class Offsets>
index_t slot_count(const Offsets& offsets, index_t rows, index_t size) {
  if (offsets.extent(0) == 0) return blocks_of(rows, size);
  return rows / size + offsets.extent(0) - 1;
}
template <class Offsets>
DEEPSEEK_HOST_DEVICE slot slot_at(const Offsets& offsets, index_t size, index_t at) {
  if (offsets.extent(0) == 0) return {0, at};
  index_t low = 0, high = offsets.extent(0) - 2;  // the last sequence that begins at or before
  while (low < high) {
    const index_t middle = low + (high - low + 1) / 2;
    offsets(middle) / size + middle <= at ? low = middle : high = middle - 1;
  }
  return {low, at - (offsets(low) / size + low)};
}

// The rows of a tile: row r is query first_query + r / heads, head first_head + r % heads.
struct row_group {
  index_t first_query, queries;  // within the sequence
  index_t first_head;
  int heads, here;  // of a row of the tile; of these, how many there are

  DEEPSEEK_HOST_DEVICE index_t query(int r) const { return first_query + r / heads; }
  DEEPSEEK_HOST_DEVICE index_t head(int r) const { return first_head + r % heads; }
  DEEPSEEK_HOST_DEVICE bool holds(int r) const { return r < queries * heads && r % heads < here; }
};

// How the query heads of one key-value head are dealt out to tiles of `rows` rows.
struct head_parts {
  int heads;        // in a tile
  index_t parts;    // tiles for all of them
  index_t queries;  // in a tile

  DEEPSEEK_HOST_DEVICE static head_parts of(index_t group, int rows) {
    const int heads = group < 1 ? 1 : group < rows ? static_cast<int>(group) : rows;
    return {heads, (group + heads - 1) / heads, rows / heads};
  }
};

// The first key tile at or after `from` that may hold a key which some head of queries q0 .. q1 - 1
// sees; seq.keys or more: none. All threads of the block call it and get the same.
template <class Block, class P, class S>
DEEPSEEK_HOST_DEVICE index_t next_tile(const Block& block, const P& pattern, const sequence<S>& seq,
                                       const row_group& rows, index_t from) {
  const index_t q0 = seq.start + rows.first_query, q1 = q0 + rows.queries;
  index_t first = no_key;
  for (int g = block.rank(); g < rows.here; g += block.size()) {
    const P bound = bind_pattern(pattern, seq.scope(rows.first_head + g));
    first = smaller{}(first, next_keys(bound, q0, q1, from).first);
  }
  first = block.combine(first, smaller{}) / key_tile * key_tile;
  return first > from ? first : from;
}

template <class P>
inline constexpr bool binds = requires(const P& p, const pattern_scope& scope) {
  p.bind(scope);
};

// The same without a sync where the pattern is the same for all heads and sequences.
template <class Block, class P, class S>
DEEPSEEK_HOST_DEVICE index_t next_shared_tile(const Block& block, const P& pattern,
                                              const sequence<S>& seq, const row_group& rows,
                                              index_t from) {
  if constexpr (binds<P>) {
    return next_tile(block, pattern, seq, rows, from);
  } else {
    const index_t q0 = seq.start + rows.first_query;
    const index_t first = next_keys(pattern, q0, q0 + rows.queries, from).first;
    return first / key_tile * key_tile > from ? first / key_tile * key_tile : from;
  }
}

}  // namespace deepseek::cuda_attention
