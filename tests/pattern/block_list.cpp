// SPDX-License-Identifier: Apache-2.0
// block_list: any pattern written out answers as the pattern itself, pair by pair, word by word and
// tile by tile, for every head and any positions; what is stored; what is refused.
#include "deepseek/pattern/block_list.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/list_blocks.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "support/throws.hpp"

#include <doctest/doctest.h>

using namespace deepseek;

namespace {

// A predicate with state, and the least that a user writes.
struct every_nth {
  index_t n = 3;
  bool visible(index_t q, index_t k) const { return (q + k) % n == 0 && q / 20 != k / 20; }
  coverage cover(const tile&) const { return coverage::partial; }
};
// Tiles that are hidden and whole, in turns that a search has to find.
struct far_tiles {
  static bool visible(index_t, index_t k) { return k / 64 % 3 == 1 || k / 64 == 0; }
  static coverage cover(const tile&) { return coverage::partial; }
};

template <class P>
coverage exact_cover(const P& p, const tile& t) {
  index_t seen = 0;
  for (index_t q = t.q0; q < t.q1; ++q) {
    for (index_t k = t.k0; k < t.k1; ++k) seen += p.visible(q, k) ? 1 : 0;
  }
  return seen == 0                               ? coverage::none
         : seen == (t.q1 - t.q0) * (t.k1 - t.k0) ? coverage::full
                                                 : coverage::partial;
}

template <class P>
bool words_agree(const block_list& a, const P& b, const tile& all) {
  for (index_t q = all.q0; q < all.q1; ++q) {
    for (index_t k = 0; k < all.k1; k += k % 64 == 0 ? 1 : 21) {
      if (a.visible(q, k) != b.visible(q, k)) return false;
      if (a.row_bits(q, k) != (row_bits(b, q, k) & span_bits(0, all.k1, k))) return false;
    }
    if (a.visible(q, all.k1)) return false;
  }
  return true;
}

template <class P>
bool tiles_agree(const block_list& a, const P& b, const tile& all) {
  for (index_t q = all.q0; q < all.q1; q += 23) {
    const index_t q1 = std::min(q + 40, all.q1);
    for (index_t k = 0; k < all.k1; k += 17) {
      const tile one{q, q1, k, std::min(k + 64, all.k1)}, two{q, q1, k, std::min(k + 90, all.k1)};
      if (a.cover(one) != exact_cover(b, one) || a.cover(two) != exact_cover(b, two)) return false;
      std::uint64_t rows[64];
      a.rows_bits(one, rows);
      for (index_t i = q; i < q1; ++i) {
        if (rows[i - q] != a.row_bits(i, k)) return false;
      }
    }
  }
  return true;
}

// Every visible key is in a span, and tiles without one are in none.
bool spans_agree(const block_list& a, const tile& all) {
  for (index_t q = all.q0; q < all.q1; q += 9) {
    const index_t q1 = std::min(q + 30, all.q1);
    std::vector<char> named(static_cast<std::size_t>(all.k1));
    for (index_t from = 0; from < all.k1;) {
      const key_span s = a.next_keys(q, q1, from);
      if (s.first == no_key) break;
      if (s.first < from || s.last <= s.first || s.last > all.k1) return false;
      std::fill(named.begin() + s.first, named.begin() + s.last, 1);
      from = s.last;
    }
    for (index_t k = 0; k < all.k1; ++k) {
      const index_t k0 = k / 64 * 64, first = floor_divide(q, 64) * 64;
      const index_t last = (floor_divide(q1 - 1, 64) + 1) * 64;
      const tile around{std::max(first, all.q0), std::min(last, all.q1), k0,
                        std::min(k0 + 64, all.k1)};
      const bool listed = a.cover(around) != coverage::none;
      if (named[static_cast<std::size_t>(k)] != (listed ? 1 : 0)) return false;
    }
  }
  return true;
}

template <class P>
void check_listed(const P& pattern) {
  const block_list_sizes all_sizes[] = {{.queries = 200, .keys = 200, .heads = 3},
                                        {.queries = 70, .keys = 333, .heads = 2, .start = 91},
                                        {.queries = 150, .keys = 65, .heads = 2, .start = -85},
                                        {.queries = 1, .keys = 64, .start = 63}};
  for (const block_list_sizes& s : all_sizes) {
    const auto tables = list_blocks(pattern, s);
    const block_list list(tables);
    const tile all{s.start, s.start + s.queries, 0, s.keys};
    pattern_scope scope{
        .head = s.heads - 1, .keys = s.keys, .start = s.start, .queries = s.queries};
    require_pattern(list, scope);
    for (scope.head = 0; scope.head < s.heads; ++scope.head) {
      const auto a = bind_pattern(list, scope);
      const auto b = bind_pattern(pattern, scope);
      CHECK(words_agree(a, b, all));
      CHECK(tiles_agree(a, b, all));
      CHECK(spans_agree(a, all));
      CHECK(a.row_bits(all.q0 - 1, 0) == 0);
      CHECK(a.row_bits(all.q1, 0) == 0);
    }
  }
}

}  // namespace

TEST_CASE("block list: answers as the pattern that is listed") {
  static_assert(Pattern<block_list> && std::is_trivially_copyable_v<block_list>);
  check_listed(causal{});
  check_listed(everyone{});
  check_listed(both<causal, local<70>>{});
  check_listed(every_nth{5});
  check_listed(far_tiles{});
  check_listed(fixed<30, 4, 3>{});
  check_listed(any_pattern(either<sliding<9>, every_nth>(sliding<9>{}, every_nth{7})));
  check_listed(any_pattern());
  check_listed(make_pattern<random_blocks<16, 2>>({.seed = 5, .site = 3}));
  check_listed(both<causal, random_blocks<64, 1>>::make({.seed = 2, .site = 1}));
}

TEST_CASE("block list: equal tiles and equal heads are stored once") {
  const auto past = list_blocks(any_pattern(causal{}), {.queries = 640, .keys = 640, .heads = 8});
  CHECK(past.lists == 1);
  CHECK(past.bits.extent(0) == 1);  // the diagonal's
  CHECK(past.blocks.extent(0) == 55);
  CHECK(past.bytes() == 4 * 11 + 8 * 55 + 512);
  CHECK(heads_alike(block_list(past)));

  const auto drawn = list_blocks(make_pattern<random_blocks<64, 2>>({.seed = 5, .site = 3}),
                                 {.queries = 640, .keys = 640, .heads = 3});
  CHECK(drawn.lists == 3);
  CHECK(drawn.bits.extent(0) == 0);  // each tile whole or hidden
  CHECK(drawn.blocks.extent(0) == 60);
  CHECK_FALSE(heads_alike(block_list(drawn)));
  CHECK_FALSE(heads_alike(both<causal, block_list>(causal{}, block_list(drawn))));

  const auto none = list_blocks(everyone{}, {.queries = 0, .keys = 100});
  CHECK((none.starts.size() == 1 && none.blocks.size() == 0));
  const auto no_keys = list_blocks(everyone{}, {.queries = 100, .keys = 0});
  CHECK((no_keys.starts.size() == 3 && no_keys.blocks.size() == 0));
}

TEST_CASE("block list: inside other patterns, and lists of lists") {
  const auto tables = list_blocks(every_nth{4}, {.queries = 150, .keys = 150});
  const block_list list(tables);
  check_pattern<both<causal, block_list>>();
  const both<causal, block_list> back(causal{}, list);
  const auto again = list_blocks(back, {.queries = 150, .keys = 150, .heads = 1});
  const block_list twice(again);
  const tile all{0, 150, 0, 150};
  CHECK(words_agree(twice, both<causal, every_nth>(causal{}, every_nth{4}), all));
  const scored<block_list, alibi<2>> biased(list, {});
  CHECK(biased.row_bits(3, 0) == list.row_bits(3, 0));
  static_assert(checked_by_sizes<both<causal, block_list>> &&
                checked_by_sizes<scored<block_list, alibi<2>>> && !checked_by_sizes<any_pattern>);
}

TEST_CASE("block list: a table with rows is listed for its own rows") {
  std::int32_t ids[70][2];
  for (std::int32_t i = 0; i < 70; ++i) ids[i][0] = i / 2, ids[i][1] = i + 1;
  const index_set set(view<const std::int32_t, host, dyn, dyn>(ids[0], {70, 2}));
  const block_list_sizes s{.queries = 70, .keys = 100, .start = 30};
  const auto tables = list_blocks(any_pattern(both<causal, index_set>(causal{}, set)), s);
  const block_list list(tables);
  const pattern_scope own{.keys = 100, .start = 30, .queries = 70};
  require_pattern(list, own);
  const auto bound = bind_pattern(both<causal, index_set>(causal{}, set), own);
  CHECK(words_agree(bind_pattern(list, own), bound, {30, 100, 0, 100}));
  const pattern_scope other{.keys = 100, .row = 4, .start = 34, .queries = 66};
  CHECK_ERROR(error_code::unsupported, "row 0 at position 30, not row 4 at 34",
              require_pattern(list, other));
  CHECK(bind_pattern(list, other).row_bits(34, 0) == 0);
  const auto shared = index_set::shared(view<const std::int32_t, host, dyn>(ids[5], {2}));
  CHECK_FALSE(list_blocks(shared, s).by_row);
}

TEST_CASE("block list: what is not listed is refused") {
  const auto tables = list_blocks(make_pattern<random_blocks<16, 2>>({.seed = 5, .site = 3}),
                                  {.queries = 70, .keys = 100, .heads = 4, .start = 30});
  const block_list list(tables);
  const auto rejects = [&](const pattern_scope& scope, const char* words) {
    CHECK_ERROR(error_code::shape_mismatch, words, require_pattern(list, scope));
  };
  require_pattern(list, {.head = 3, .keys = 64, .start = 40, .queries = 60});
  rejects({.head = 7, .keys = 100, .start = 30, .queries = 70}, "4 heads are listed for an");
  rejects({.head = 0, .keys = 100, .start = 30, .queries = 70}, "an attention of 1");
  rejects({.head = 3, .keys = 101, .start = 30, .queries = 70}, "101 keys, but 100 are listed");
  rejects({.head = 3, .keys = 100, .start = 29, .queries = 70}, "29 .. 98, but 30 .. 99 are");
  rejects({.head = 3, .keys = 100, .start = 31, .queries = 70}, "31 .. 100, but 30 .. 99 are");
  CHECK_ERROR(error_code::shape_mismatch, "but 0 .. -1 are listed",
              require_pattern(block_list(), {.queries = 1}));
  CHECK(block_list().cover({0, 5, 0, 5}) == coverage::none);
  CHECK(block_list().next_keys(0, 5, 0) == key_span{});
  CHECK(bind_pattern(list, {.head = 4, .keys = 100}).row_bits(40, 0) == 0);

  CHECK_ERROR(error_code::invalid_argument, "-1 queries by 5 keys",
              list_blocks(causal{}, {.queries = -1, .keys = 5}));
  CHECK_ERROR(error_code::invalid_argument, "in 0 heads",
              list_blocks(causal{}, {.queries = 1, .keys = 5, .heads = 0}));
  CHECK_ERROR(error_code::overflow, "less than 2^37",
              list_blocks(causal{}, {.queries = 1, .keys = index_t{1} << 40}));
  CHECK_ERROR(error_code::invalid_argument, "bigbird: 12 keys",
              list_blocks(bigbird<4, 1>{}, {.queries = 12, .keys = 12}));
}
