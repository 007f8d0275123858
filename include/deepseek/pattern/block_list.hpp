// SPDX-License-Identifier: Apache-2.0
// block_list: any pattern as data. Queries and keys are cut into tiles of 64 x 64 at positions that
// are multiples of 64; for each row of tiles the list of those in which something is visible, each
// whole or with its 64 words of bits. list_blocks (pattern/list_blocks.hpp) writes it out once on
// the host; kernels read it as they ask any other pattern, so what only a program's run decides
// (any_pattern, a predicate with state) runs on every backend.
//   const auto tiles = list_blocks(any_pattern(...), {.queries = n, .keys = n});
//   attention_spec<block_list>{.pattern = block_list(tiles)};             // host
//   const auto there = in_memory<device>(tiles);                          // block_list(there)
// A block_list borrows the tables, which must outlive it and live in the backend's memory.
// Positions are absolute: any start, pages, GQA, and packed sequences whose positions all are among
// those listed. Memory: 8 bytes a tile, 4 a row of tiles, 512 for each different partial tile, for
// each head that sees other keys than the first. A question costs log(tiles of the row), one step
// where they stand side by side. Errors: shape_mismatch (keys, queries or heads that are not
// listed), unsupported (rows of a table, by_row, at other rows or positions). On a device they are
// found where the host knows the sizes; a packed sequence, or a start read there, beyond the lists
// sees nothing. Source: Dong et al. 2024 (FlexAttention), section 4 (block mask).
#pragma once

#include "deepseek/core/tensor.hpp"
#include "deepseek/core/transfer.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

// What is listed: queries at positions start .. start + queries - 1 by keys 0 .. keys - 1, for each
// of `heads` heads. heads 1: one list for all, what the pattern says of head 0. A start < 0 serves
// more queries than keys.
struct block_list_sizes {
  index_t queries = 0, keys = 0, heads = 1, start = 0;
};

inline constexpr index_t listed_tile = 64;

// The tables of a block_list.
template <class Space = host>
struct listed_blocks {
  block_list_sizes sizes{};
  index_t lists = 1;    // heads, or 1 where all of them see the same
  bool by_row = false;  // listed for the rows of a table, row 0 at sizes.start

  tensor<std::int32_t, Space, dyn> starts{};     // [lists * rows of tiles + 1], into blocks
  tensor<std::int32_t, Space, dyn, 2> blocks{};  // tile of keys, ascending in a row; its bits
  tensor<std::uint64_t, Space, dyn, 64> bits{};  // [different partial tiles, queries]

  index_t rows() const {
    return sizes.queries == 0 ? 0
                              : floor_divide(sizes.start + sizes.queries - 1, listed_tile) -
                                    floor_divide(sizes.start, listed_tile) + 1;
  }
  index_t bytes() const { return 4 * starts.size() + 4 * blocks.size() + 8 * bits.size(); }
};

// The same tables in another memory.
template <class Space, class S>
listed_blocks<Space> in_memory(const listed_blocks<S>& x) {
  return {x.sizes,
          x.lists,
          x.by_row,
          in_memory<Space>(x.starts),
          in_memory<Space>(x.blocks),
          in_memory<Space>(x.bits)};
}

struct block_list {
  static constexpr bool checked_by_sizes = true;
  // What stands beside a tile of keys: the number of its bits, or
  static constexpr std::int32_t whole = -1, hidden = -2;

  const std::int32_t *starts = nullptr, *blocks = nullptr;
  const std::uint64_t* bits = nullptr;
  block_list_sizes sizes{};
  index_t lists = 1;
  bool rows_matter = false;

  block_list() = default;  // serves no query
  template <class S>
  explicit block_list(const listed_blocks<S>& tables)
      : starts(tables.starts.data()),
        blocks(tables.blocks.data()),
        bits(tables.bits.data()),
        sizes(tables.sizes),
        lists(tables.lists),
        rows_matter(tables.by_row) {}
  template <class S>
  explicit block_list(const listed_blocks<S>&&) = delete;  // it would not outlive the call

  bool by_row() const { return rows_matter; }
  bool heads_alike() const { return lists == 1; }
  void check(const pattern_scope& scope) const {
    require(sizes.heads == 1 || scope.head + 1 == sizes.heads, error_code::shape_mismatch,
            "block_list: ", sizes.heads, " heads are listed for an attention of ", scope.head + 1,
            "; list that many, or one for all");
    require(scope.keys <= sizes.keys, error_code::shape_mismatch, "block_list: ", scope.keys,
            " keys, but ", sizes.keys, " are listed; list as many as there will be");
    require(
        scope.start >= sizes.start && scope.start + scope.queries <= sizes.start + sizes.queries,
        error_code::shape_mismatch, "block_list: queries at positions ", scope.start, " .. ",
        scope.start + scope.queries - 1, ", but ", sizes.start, " .. ",
        sizes.start + sizes.queries - 1, " are listed; list all that will be asked for");
    require(!rows_matter || at_row(scope), error_code::unsupported,
            "block_list: rows of a table are listed with row 0 at position ", sizes.start,
            ", not row ", scope.row, " at ", scope.start,
            "; list each sequence's own, or pass the table itself");
  }
  DEEPSEEK_HOST_DEVICE block_list bind(const pattern_scope& scope) const {
    block_list bound = *this;
    if (scope.head >= sizes.heads && sizes.heads > 1) bound.sizes.queries = 0;
    if (rows_matter && !at_row(scope)) bound.sizes.queries = 0;
    if (lists > 1) bound.starts += scope.head * rows();
    return bound;
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    return (row_bits(q, k) & 1) != 0;
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    if (q < sizes.start || q >= end()) return 0;
    return word_at(words_of(floor_divide(q, listed_tile), k0), q);
  }
  DEEPSEEK_HOST_DEVICE void rows_bits(const tile& t, std::uint64_t* out) const {
    words w{};
    for (index_t q = t.q0; q < t.q1; ++q) {
      const bool here = q >= sizes.start && q < end();
      if (here && (q == t.q0 || q == sizes.start || q % listed_tile == 0)) {
        w = words_of(floor_divide(q, listed_tile), t.k0);
      }
      out[q - t.q0] = here ? word_at(w, q) : 0;
    }
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    bool some = false, all = t.q0 >= sizes.start && t.q1 <= end() && t.k1 <= sizes.keys;
    const index_t q1 = t.q1 < end() ? t.q1 : end();
    for (index_t q = t.q0 > sizes.start ? t.q0 : sizes.start, next = q; q < q1; q = next) {
      next = (floor_divide(q, listed_tile) + 1) * listed_tile;
      if (next > q1) next = q1;
      for (index_t k0 = t.k0; k0 < t.k1; k0 += listed_tile) {
        look_at(q, next, {k0, t.k1}, some, all);
        if (some && !all) return coverage::partial;
      }
    }
    return !some ? coverage::none : all ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    if (q0 < sizes.start) q0 = sizes.start;
    if (q1 > end()) q1 = end();
    if (q0 >= q1) return {};
    index_t first = no_key;
    const index_t last = floor_divide(q1 - 1, listed_tile);
    for (index_t a = floor_divide(q0, listed_tile); a <= last; ++a) {
      const index_t at = at_or_after(a, from / listed_tile);
      if (at < ends(a) && blocks[2 * at] < first) first = blocks[2 * at];
    }
    if (first == no_key || from >= sizes.keys) return {};
    const index_t k0 = first * listed_tile, k1 = k0 + listed_tile;
    return {k0 > from ? k0 : from, k1 < sizes.keys ? k1 : sizes.keys};
  }

 private:
  // 64 keys from k0 on, of the rows of one row of tiles: their tile and the next, where they begin
  // inside one.
  struct words {
    std::int32_t low, high;
    int shift;
    std::uint64_t there;
  };

  DEEPSEEK_HOST_DEVICE bool at_row(const pattern_scope& s) const {
    return s.row == 0 && s.start == sizes.start;
  }
  DEEPSEEK_HOST_DEVICE index_t end() const { return sizes.start + sizes.queries; }
  DEEPSEEK_HOST_DEVICE index_t rows() const {
    return floor_divide(end() - 1, listed_tile) - floor_divide(sizes.start, listed_tile) + 1;
  }
  DEEPSEEK_HOST_DEVICE index_t begins(index_t a) const {
    return starts[a - floor_divide(sizes.start, listed_tile)];
  }
  DEEPSEEK_HOST_DEVICE index_t ends(index_t a) const { return begins(a + 1); }

  // Where the first tile of row a at or after b stands. Tiles of a row ascend by at least one, so
  // the first and the last of them bound the search: to nothing where they stand side by side.
  DEEPSEEK_HOST_DEVICE index_t at_or_after(index_t a, index_t b) const {
    index_t low = begins(a), high = ends(a);
    if (low == high) return high;
    const index_t first = blocks[2 * low], last = blocks[2 * (high - 1)];
    if (b > last) return high;
    if (b <= first) return low;
    const index_t most = low + (b - first), least = high - 1 - (last - b);
    high = most < high ? most : high;
    low = least > low ? least : low;
    while (low < high) {
      const index_t middle = low + (high - low) / 2;
      blocks[2 * middle] < b ? low = middle + 1 : high = middle;
    }
    return low;
  }
  DEEPSEEK_HOST_DEVICE std::int32_t kind_of(index_t a, index_t b) const {
    const index_t at = at_or_after(a, b);
    if (at == ends(a) || blocks[2 * at] != b) return hidden;
    return blocks[2 * at + 1];
  }
  DEEPSEEK_HOST_DEVICE words words_of(index_t a, index_t k0) const {
    const int shift = static_cast<int>(k0 % listed_tile);
    return {kind_of(a, k0 / listed_tile), shift == 0 ? hidden : kind_of(a, k0 / listed_tile + 1),
            shift, span_bits(0, sizes.keys, k0)};
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t word(std::int32_t kind, index_t q) const {
    if (kind < 0) return kind == whole ? ~std::uint64_t{0} : 0;
    return bits[listed_tile * kind + (q - floor_divide(q, listed_tile) * listed_tile)];
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t word_at(const words& w, index_t q) const {
    std::uint64_t seen = word(w.low, q) >> w.shift;
    if (w.shift != 0) seen |= word(w.high, q) << (64 - w.shift);
    return seen & w.there;
  }
  // Queries q0 .. q1 - 1 of one row of tiles by the first 64 of these keys.
  DEEPSEEK_HOST_DEVICE void look_at(index_t q0, index_t q1, key_span keys, bool& some,
                                    bool& all) const {
    const words w = words_of(floor_divide(q0, listed_tile), keys.first);
    const std::uint64_t wanted = span_bits(keys.first, keys.last, keys.first);
    const bool same = w.low < 0 && (w.shift == 0 || w.high < 0);  // in all of these queries
    for (index_t q = q0; q < (same ? q0 + 1 : q1); ++q) {
      const std::uint64_t seen = word_at(w, q) & wanted;
      some = some || seen != 0;
      all = all && seen == wanted;
      if (some && !all) return;
    }
  }
};

}  // namespace deepseek
