// SPDX-License-Identifier: Apache-2.0
// Every pattern and combination, exhaustively on small positions: visible against a rule written
// here, cover against visible on all tiles, spans and row bits against visible.
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_mask.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include <doctest/doctest.h>
#include <string>
#include <vector>

using namespace deepseek;

namespace {

constexpr index_t keys = 14, first_query = -5, last_query = 20;

struct counts {
  index_t wrong_none = 0, wrong_full = 0, loose = 0, tiles = 0;
};

template <class P>
counts compare_cover(const P& p) {
  counts c;
  for (index_t q0 = first_query; q0 < last_query; ++q0) {
    for (index_t q1 = q0 + 1; q1 <= last_query; ++q1) {
      for (index_t k0 = 0; k0 < keys; ++k0) {
        bool some = false, all = true;
        for (index_t k1 = k0 + 1; k1 <= keys; ++k1) {
          for (index_t q = q0; q < q1; ++q) p.visible(q, k1 - 1) ? some = true : all = false;
          const coverage said = p.cover({q0, q1, k0, k1});
          c.wrong_none += said == coverage::none && some;
          c.wrong_full += said == coverage::full && !all;
          c.loose += said == coverage::partial && (!some || all);
          ++c.tiles;
        }
      }
    }
  }
  return c;
}

// Keys visited by the spans of q0 .. q1 - 1 hold every visible key; spans ascend.
template <class P>
bool spans_hold(const P& p, index_t q0, index_t q1) {
  std::vector<bool> visited(static_cast<std::size_t>(keys));
  index_t from = 0;
  while (from < keys) {
    const key_span s = next_keys(p, q0, q1, from);
    if (s.first != no_key && (s.first < from || s.last <= s.first)) return false;
    for (index_t k = s.first; k < s.last && k < keys; ++k)
      visited[static_cast<std::size_t>(k)] = true;
    from = s.last;
  }
  for (index_t q = q0; q < q1; ++q) {
    for (index_t k = 0; k < keys; ++k) {
      if (p.visible(q, k) && !visited[static_cast<std::size_t>(k)]) return false;
    }
  }
  return true;
}

template <class P>
bool bits_agree(const P& p) {
  for (index_t q = first_query; q < last_query; ++q) {
    for (index_t k0 : {0, 3, 64}) {
      std::uint64_t bits = 0;
      for (int j = 0; j < 64; ++j) {
        if (p.visible(q, k0 + j)) bits += std::uint64_t{1} << j;
      }
      if (bits != row_bits(p, q, k0)) return false;
    }
  }
  return true;
}

// exact: cover never says partial where none or full is true.
enum class cover_is { exact, safe };

template <class P, class Rule>
void check(const std::string& name, const P& pattern, cover_is how, Rule rule) {
  CAPTURE(name);
  const P p = bind_pattern(pattern, pattern_scope{.head = 1, .keys = keys});
  index_t wrong = 0;
  for (index_t q = first_query; q < last_query; ++q) {
    for (index_t k = 0; k < keys; ++k) wrong += p.visible(q, k) != rule(q, k);
  }
  CHECK(wrong == 0);
  const counts c = compare_cover(p);
  CHECK(c.tiles == 325 * 105);
  CHECK(c.wrong_none == 0);
  CHECK(c.wrong_full == 0);
  if (how == cover_is::exact) CHECK(c.loose == 0);
  CHECK(bits_agree(p));
  bool spans = true;
  for (index_t q0 = first_query; q0 < last_query; ++q0) {
    for (index_t q1 = q0 + 1; q1 <= last_query; ++q1) spans = spans && spans_hold(p, q0, q1);
  }
  CHECK(spans);
}

index_t block_of(index_t x, index_t size) {
  index_t b = 0;
  while (b * size > x) --b;
  while ((b + 1) * size <= x) ++b;
  return b;
}

// A pattern of a user: the two functions and nothing else.
struct every_third {
  static bool visible(index_t q, index_t k) { return k <= q && (q - k) % 3 == 0; }
  static coverage cover(const tile& t) {
    return t.k0 > t.q1 - 1 ? coverage::none : coverage::partial;
  }
};

}  // namespace

TEST_CASE("patterns along the diagonal") {
  check("causal", causal{}, cover_is::exact, [](index_t q, index_t k) { return k <= q; });
  check("everyone", everyone{}, cover_is::exact, [](index_t, index_t) { return true; });
  check("local0", local<0>{}, cover_is::exact, [](index_t q, index_t k) { return q == k; });
  check("local3", local<3>{}, cover_is::exact,
        [](index_t q, index_t k) { return q - k <= 3 && k - q <= 3; });
  check("sliding1", sliding<1>{}, cover_is::exact, [](index_t q, index_t k) { return q == k; });
  check("sliding4", sliding<4>{}, cover_is::exact,
        [](index_t q, index_t k) { return q - k >= 0 && q - k < 4; });
}

TEST_CASE("block patterns") {
  check("block1", block<1>{}, cover_is::exact, [](index_t q, index_t k) { return q == k; });
  check("block4", block<4>{}, cover_is::exact,
        [](index_t q, index_t k) { return block_of(q, 4) == block_of(k, 4); });
  check("block3 neighbours", block<3, 2>{}, cover_is::exact, [](index_t q, index_t k) {
    const index_t apart = block_of(q, 3) - block_of(k, 3);
    return apart >= -2 && apart <= 2;
  });
}

TEST_CASE("random blocks cover what they draw") {
  using pattern = random_blocks<3, 2>;
  const auto p = make_pattern<pattern>({11, 2});
  for (reach seen : {reach::everywhere, reach::past}) {
    const pattern bound{p.key, {.head = 1, .keys = keys, .seen = seen}};
    const auto rule = [&](index_t q, index_t k) {
      const auto drawn = bound.draw(block_of(q, 3));
      bool in = false;
      for (std::uint32_t i = 0; i < drawn.count; ++i) {
        in = in || static_cast<index_t>(drawn.blocks[i]) == block_of(k, 3);
      }
      return in;
    };
    if (seen == reach::everywhere) {
      check("random", p, cover_is::exact, rule);
    } else {
      check("random past", both<everyone, sliding<1000>, pattern>(everyone{}, {}, p),
            cover_is::safe, [&](index_t q, index_t k) { return k <= q && rule(q, k); });
    }
  }
}

TEST_CASE("combined patterns") {
  check("both", both<causal, local<3>>{}, cover_is::safe,
        [](index_t q, index_t k) { return k <= q && q - k <= 3; });
  check("one", both<causal>{}, cover_is::exact, [](index_t q, index_t k) { return k <= q; });
  check("either", either<local<1>, block<4>>{}, cover_is::safe, [](index_t q, index_t k) {
    return (q - k <= 1 && k - q <= 1) || block_of(q, 4) == block_of(k, 4);
  });
  check("far apart", both<block<2>, block<3, 1>, causal>{}, cover_is::safe,
        [](index_t q, index_t k) {
          const index_t apart = block_of(q, 3) - block_of(k, 3);
          return block_of(q, 2) == block_of(k, 2) && apart >= -1 && apart <= 1 && k <= q;
        });
  check("nested", either<both<causal, block<5>>, both<local<2>, everyone>, sliding<1>>{},
        cover_is::safe, [](index_t q, index_t k) {
          return (k <= q && block_of(q, 5) == block_of(k, 5)) || (q - k <= 2 && k - q <= 2);
        });
  check("user's own", every_third{}, cover_is::safe,
        [](index_t q, index_t k) { return k <= q && (q - k) % 3 == 0; });
  check("user's in both", both<every_third, local<6>>{}, cover_is::safe,
        [](index_t q, index_t k) { return k <= q && (q - k) % 3 == 0 && q - k <= 6; });
}

TEST_CASE("a given mask") {
  std::vector<std::uint8_t> table;
  for (int i = 0; i < 12 * 10; ++i) table.push_back(i % 7 < 3 || i / 10 == 4 ? 1 : 0);
  const given_mask mask(view<const std::uint8_t, host, dyn, dyn>(table.data(), {12, 10}));
  check("mask", mask, cover_is::exact, [&](index_t q, index_t k) {
    return q >= 0 && q < 12 && k < 10 && table[static_cast<std::size_t>(q * 10 + k)] != 0;
  });
}

TEST_CASE("a pattern is a constant expression") {
  static_assert(Pattern<causal> && Pattern<given_mask> && Pattern<every_third>);
  static_assert(!Pattern<int>);
  using mixed = both<causal, either<local<8>, random_blocks<4, 1>>>;
  static_assert(Pattern<mixed> && reach_of<mixed> == reach::past);
  static_assert(reach_of<either<causal, local<2>>> == reach::everywhere);
  static_assert(reach_of<either<causal, sliding<2>>> == reach::past);
  constexpr mixed bound = bind_pattern(make_pattern<mixed>({1, 2}), {.head = 3, .keys = 100});
  static_assert(bound.visible(50, 42) && !bound.visible(50, 51));
  static_assert(bound.cover({48, 52, 60, 70}) == coverage::none);
  static_assert(causal::cover({64, 128, 0, 64}) == coverage::full);
  static_assert(local<16>::next_keys(100, 110, 0) == key_span{84, 126});
  static_assert(span_bits(3, 5, 0) == 24 && span_bits(0, 64, 0) == ~std::uint64_t{0});
  static_assert(span_bits(0, 10, 64) == 0 && span_bits(65, 66, 64) == 2);
  static_assert(floor_divide(-1, 4) == -1 && floor_divide(-4, 4) == -1 &&
                floor_divide(-5, 4) == -2);
  static_assert(std::is_empty_v<causal> && sizeof(both<causal, local<4>>) <= 8);
  CHECK(row_bits(bound, 1, 0) == 3);
}

TEST_CASE("a table of keys, in order and not, with holes, doubles and ids beyond the keys") {
  constexpr std::int32_t ascending[6][5] = {{0, 1, 2, 3, 4},      {2, 3, 9, 9, 12},
                                            {-1, -1, -1, -1, -1}, {1, 5, 70, -1, -1},
                                            {0, -1, -1, -1, -1},  {3, 4, 5, 6, 7}};
  constexpr std::int32_t any[6][5] = {{4, 2, 0, 1, 3},    {9, 2, 12, 3, 9},    {-1, -1, -1, -1, -1},
                                      {-1, 70, 5, -7, 1}, {-1, 0, -1, -1, -1}, {7, 6, 5, 4, 3}};
  const auto rule = [&](index_t q, index_t k) {
    if (q < 0 || q > 5) return false;
    for (std::int32_t id : ascending[q]) {
      if (id == k) return true;
    }
    return false;
  };
  const view<const std::int32_t, host, 6, 5> sorted(ascending[0], {6, 5}), mixed(any[0], {6, 5});
  check("ascending", index_set(sorted, index_order::ascending), cover_is::exact, rule);
  check("any order", index_set(mixed), cover_is::exact, rule);
  // The last three rows belong to a sequence that begins at position 10.
  const pattern_scope later{.keys = keys, .row = 3, .start = 10};
  const index_set bound = index_set(sorted, index_order::ascending).bind(later);
  CHECK(bound.visible(10, 5));
  CHECK(!bound.visible(3, 5));
  CHECK(bound.visible(12, 7));
  CHECK(!bound.visible(13, 7));
}
