// SPDX-License-Identifier: Apache-2.0
// Every pattern and combination, exhaustively on small positions: visible against a rule written
// here, cover against visible on all tiles, spans and row bits against visible.
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_mask.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "pattern/cover_case.hpp"

using namespace pattern_test;

namespace {

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
