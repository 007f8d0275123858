// SPDX-License-Identifier: Apache-2.0
// list_blocks(pattern, {queries, keys, heads, start}): the tables of a block_list
// (pattern/block_list.hpp), written out on the host from any pattern: any_pattern, a predicate of
// the user's own, unions. The pattern is asked as for one sequence of `keys` keys whose first query
// is row 0 of the batch at position start; a pattern that draws among all keys draws among these.
// Score modifiers stay outside: scored<block_list, alibi<8>>. A tile is partial only where some
// pair of it is hidden; equal partial tiles are stored once, heads that all see the same once.
// Errors: invalid_argument (sizes), overflow (2^31 tiles of a row, or listed), what the pattern
// refuses. Cost: each tile that next_keys names is asked once a head.
#pragma once

#include "deepseek/pattern/block_list.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace deepseek {

namespace listing {

using rows_of_tile = std::uint64_t[listed_tile];

// Each different partial tile once.
class different_tiles {
 public:
  std::int32_t number_of(const rows_of_tile& rows) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::uint64_t row : rows) hash = (hash ^ row ^ (row >> 29)) * 0x100000001b3U;
    const auto [first, last] = known_.equal_range(hash);
    for (auto at = first; at != last; ++at) {
      if (std::equal(rows, rows + listed_tile, bits.begin() + listed_tile * at->second)) {
        return at->second;
      }
    }
    const auto number = static_cast<std::int32_t>(count());
    bits.insert(bits.end(), rows, rows + listed_tile);
    known_.emplace(hash, number);
    return number;
  }
  index_t count() const { return static_cast<index_t>(bits.size()) / listed_tile; }

  std::vector<std::uint64_t> bits;

 private:
  std::unordered_multimap<std::uint64_t, std::int32_t> known_;
};

struct lists {
  std::vector<std::int32_t> starts{0}, blocks;
  different_tiles tiles;

  void add(index_t key_tile, std::int32_t kind) {
    blocks.push_back(static_cast<std::int32_t>(key_tile));
    blocks.push_back(kind);
  }
  void end_row() {
    const std::size_t count = blocks.size() / 2;
    require(count <= std::numeric_limits<std::int32_t>::max(), error_code::overflow,
            "list_blocks: ", count, " tiles; list fewer heads or positions");
    starts.push_back(static_cast<std::int32_t>(count));
  }
};

inline void require_sizes(const block_list_sizes& s) {
  constexpr index_t most = index_t{1} << 37;  // 2^31 tiles
  require(s.queries >= 0 && s.keys >= 0 && s.heads >= 1, error_code::invalid_argument,
          "list_blocks: ", s.queries, " queries by ", s.keys, " keys in ", s.heads,
          " heads; pass sizes >= 0 and at least one head");
  require(s.queries < most && s.keys < most && s.start > -most && s.start < most,
          error_code::overflow, "list_blocks: ", s.queries, " queries from position ", s.start,
          " on by ", s.keys, " keys; pass less than 2^37 of each");
}

// What pattern/pattern.hpp asks, by the host alone: in a .cu file any_pattern is listed, too.
template <class P>
P bound_to(const P& pattern, const pattern_scope& scope) {
  if constexpr (requires { pattern.bind(scope); }) {
    return pattern.bind(scope);
  } else {
    return pattern;
  }
}
template <class P>
key_span keys_after(const P& pattern, index_t q0, index_t q1, index_t from) {
  if constexpr (requires { pattern.next_keys(q0, q1, from); }) {
    return pattern.next_keys(q0, q1, from);
  } else {
    return {from, no_key};
  }
}
template <class P>
std::uint64_t row_of(const P& pattern, index_t q, const tile& t) {
  if constexpr (requires { pattern.row_bits(q, t.k0); }) {
    return pattern.row_bits(q, t.k0);
  } else {
    std::uint64_t bits = 0;
    for (index_t k = t.k0; k < t.k1; ++k) {
      if (pattern.visible(q, k)) bits |= std::uint64_t{1} << (k - t.k0);
    }
    return bits;
  }
}

// What of a tile is visible; the rows of queries that are not asked about stay 0.
template <class P>
std::int32_t kind_of_tile(const P& bound, const tile& t, rows_of_tile& rows) {
  const coverage c = bound.cover(t);
  if (c == coverage::none) return block_list::hidden;
  if (c == coverage::full) return block_list::whole;
  const index_t first = t.q0 - floor_divide(t.q0, listed_tile) * listed_tile;
  const std::uint64_t wanted = span_bits(t.k0, t.k1, t.k0);
  std::fill(rows, rows + listed_tile, std::uint64_t{0});
  std::uint64_t some = 0, all = wanted;
  for (index_t q = t.q0; q < t.q1; ++q) {
    const std::uint64_t row = row_of(bound, q, t) & wanted;
    rows[first + q - t.q0] = row;
    some |= row;
    all &= row;
  }
  return some == 0 ? block_list::hidden : all == wanted ? block_list::whole : 0;
}

template <class P>
void list_row(const P& bound, index_t q0, index_t q1, index_t keys, lists& out) {
  rows_of_tile rows;
  for (index_t from = 0; from < keys;) {
    const key_span next = keys_after(bound, q0, q1, from);
    if (next.first >= keys) break;
    const index_t k0 = std::max(next.first, from) / listed_tile * listed_tile;
    const index_t k1 = std::min(k0 + listed_tile, keys);
    std::int32_t kind = kind_of_tile(bound, {q0, q1, k0, k1}, rows);
    if (kind >= 0) kind = out.tiles.number_of(rows);
    if (kind != block_list::hidden) out.add(k0 / listed_tile, kind);
    from = k1;
  }
  out.end_row();
}

template <class P>
void list_head(const P& bound, const block_list_sizes& s, lists& out) {
  const index_t end = s.start + s.queries;
  for (index_t q = s.start, next = q; q < end; q = next) {
    next = std::min((floor_divide(q, listed_tile) + 1) * listed_tile, end);
    list_row(bound, q, next, s.keys, out);
  }
}

// Whether every head's rows hold what the first one's do.
inline bool heads_agree(const lists& all, index_t heads) {
  const std::size_t rows = (all.starts.size() - 1) / static_cast<std::size_t>(heads);
  const auto size = static_cast<std::size_t>(all.starts[rows]);
  if (all.blocks.size() != 2 * size * static_cast<std::size_t>(heads)) return false;
  for (std::size_t i = rows; i + 1 < all.starts.size(); ++i) {
    if (all.starts[i + 1] - all.starts[i] != all.starts[i + 1 - rows] - all.starts[i - rows]) {
      return false;
    }
  }
  return std::equal(all.blocks.begin() + static_cast<std::ptrdiff_t>(2 * size), all.blocks.end(),
                    all.blocks.begin());
}

template <class Tensor, class T>
Tensor filled(const typename Tensor::extents_array& extents, const std::vector<T>& from) {
  Tensor to(extents);
  std::copy_n(from.begin(), to.size(), to.data());
  return to;
}

}  // namespace listing

template <class P>
listed_blocks<host> list_blocks(const P& pattern, const block_list_sizes& s) {
  check_pattern<P>();
  static_assert(!modifies_scores<P>,
                "deepseek::list_blocks: the pattern changes scores (a list holds who sees whom "
                "alone); list the pattern inside and write scored<block_list, modifier>");
  listing::require_sizes(s);
  pattern_scope scope{.head = s.heads - 1, .keys = s.keys, .start = s.start, .queries = s.queries};
  if (s.queries > 0) require_pattern(pattern, scope);
  listing::lists all;
  for (scope.head = 0; scope.head < s.heads; ++scope.head) {
    listing::list_head(listing::bound_to(pattern, scope), s, all);
  }
  listed_blocks<host> out{.sizes = s, .lists = s.heads, .by_row = depends_on_row(pattern)};
  if (listing::heads_agree(all, s.heads)) out.lists = 1;
  const index_t rows = out.lists * out.rows();
  out.starts = listing::filled<decltype(out.starts)>({rows + 1}, all.starts);
  out.blocks = listing::filled<decltype(out.blocks)>({out.starts.data()[rows], 2}, all.blocks);
  out.bits = listing::filled<decltype(out.bits)>({all.tiles.count(), listed_tile}, all.tiles.bits);
  return out;
}

}  // namespace deepseek
