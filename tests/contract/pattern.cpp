// SPDX-License-Identifier: Apache-2.0
// What every pattern promises: `cover` never contradicts `visible`, spans hold every visible key,
// and the 64 bits of a row are the keys that are visible one by one.
#include <doctest/doctest.h>

#include "deepseek/deepseek.hpp"

namespace ds = deepseek;

namespace {

struct own {  // the least that a user writes
  bool visible(ds::index_t q, ds::index_t k) const { return (q + k) % 3 == 0; }
  ds::coverage cover(const ds::tile&) const { return ds::coverage::partial; }
};
using mixed = ds::both<ds::causal, ds::either<ds::local<2>, ds::random_blocks<4, 2>, own>>;
using published = ds::bigbird<2, 2, ds::bigbird_draws::published>;
using bounded = ds::scored<ds::scored<mixed, ds::alibi<2>>, ds::soft_cap<50>>;

template <class P>
bool cover_agrees(const P& p, const ds::tile& t) {
  ds::index_t seen = 0;
  for (ds::index_t q = t.q0; q < t.q1; ++q) {
    for (ds::index_t k = t.k0; k < t.k1; ++k) seen += p.visible(q, k) ? 1 : 0;
  }
  const ds::coverage c = p.cover(t);
  if (c == ds::coverage::none) return seen == 0;
  return c == ds::coverage::partial || seen == (t.q1 - t.q0) * (t.k1 - t.k0);
}

template <class P>
bool spans_hold(const P& p, ds::index_t q0, ds::index_t q1, ds::index_t keys) {
  ds::index_t covered = 0;  // keys below were in a span or were checked to be invisible
  const auto invisible = [&](ds::index_t to) {
    for (; covered < to; ++covered) {
      for (ds::index_t q = q0; q < q1; ++q) {
        if (p.visible(q, covered)) return false;
      }
    }
    return true;
  };
  for (ds::index_t from = 0; from < keys;) {
    const ds::key_span s = ds::next_keys(p, q0, q1, from);
    if (!invisible(std::min(s.first, keys))) return false;
    if (s.first >= keys || s.last >= keys) return true;
    covered = from = s.last;
  }
  return true;
}

// Many rows at once are what they are one by one.
template <class P>
bool rows_agree(const P& p, const ds::tile& t) {
  std::uint64_t rows[64];
  ds::rows_bits(p, t, rows);
  const std::uint64_t there = ds::span_bits(t.k0, t.k1, t.k0);
  for (ds::index_t q = t.q0; q < t.q1; ++q) {
    if (((rows[q - t.q0] ^ ds::row_bits(p, q, t.k0)) & there) != 0) return false;
  }
  return true;
}

template <class P>
void keeps_the_contract(const P& made) {
  static_assert(ds::Pattern<P>);
  constexpr ds::index_t keys = 23;
  const auto p = ds::bind_pattern(made, {1, keys});
  bool agrees = true, held = true, bits = true, rows = true;
  for (ds::index_t q0 = 0; q0 < 21; q0 += 3) {
    for (ds::index_t k0 = 0; k0 < keys; k0 += 2) {
      agrees = agrees && cover_agrees(p, {q0, q0 + 4, k0, std::min(k0 + 5, keys)});
    }
    held = held && spans_hold(p, q0, q0 + 4, keys);
    const std::uint64_t row = ds::row_bits(p, q0, 2);
    for (ds::index_t q = q0 - 9; q < q0 + 9; ++q) {
      bits = bits && (!ds::see_alike(p, q0, q) || ds::row_bits(p, q, 2) == row);
    }
    for (int j = 0; j < 20; ++j) bits = bits && (row >> j & 1U) == (p.visible(q0, 2 + j) ? 1U : 0U);
  }
  for (ds::index_t k0 = 0; k0 < keys; k0 += 5) {
    for (ds::index_t q0 : {-6, 0, 3, 12}) {
      rows = rows && rows_agree(p, {q0, q0 + 1, k0, std::min(k0 + 2, keys)}) &&
             rows_agree(p, {q0, q0 + 63, k0, keys});
    }
  }
  CHECK(agrees);
  CHECK(held);
  CHECK(bits);
  CHECK(rows);
}

// What a pattern says of heads that share a key-value head.
template <class P>
bool heads_agree(const P& made) {
  if (!ds::heads_alike(made)) return true;
  const auto a = ds::bind_pattern(made, {0, 23}), b = ds::bind_pattern(made, {5, 23});
  for (ds::index_t q = -3; q < 23; ++q) {
    if (((ds::row_bits(a, q, 0) ^ ds::row_bits(b, q, 0)) & ds::span_bits(0, 23, 0)) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("every pattern keeps the contract", P, ds::causal, ds::everyone, ds::local<3>,
                   ds::sliding<5>, ds::compressed<3>, ds::block<4>, ds::block<4, 1>,
                   ds::random_blocks<4, 2>, ds::windowed<5>, ds::dilated<2, 3>, ds::strided<4>,
                   ds::fixed<5, 1, 2>, ds::global_tokens<3>, ds::streaming<2, 4>, ds::bigbird<2, 2>,
                   published, own, mixed, bounded) {
  keeps_the_contract(ds::make_pattern<P>({7, 3}));
  CHECK(heads_agree(ds::make_pattern<P>({7, 3})));
}
TEST_CASE("a table of keys keeps the contract") {
  std::int32_t ids[24][4];
  for (std::int32_t q = 0; q < 24; ++q) {
    for (std::int32_t i = 0; i < 4; ++i) ids[q][i] = q % 5 == 4 ? -1 : q / 2 + 3 * i;
  }
  const ds::view<const std::int32_t, ds::host, 24, 4> table(ids[0], {24, 4});
  keeps_the_contract(ds::index_set(table));
  keeps_the_contract(ds::index_set(table, ds::index_order::ascending));
}
TEST_CASE("patterns of a run keep the contract") {
  const std::int32_t offsets[] = {0, 5, 6, 6, 23}, positions[] = {0, 7, 22}, ids[] = {9, 3, -1};
  using table = ds::view<const std::int32_t, ds::host, ds::dyn>;
  keeps_the_contract(ds::documents(table(offsets, {5})));
  keeps_the_contract(ds::global_set(table(positions, {3})));
  keeps_the_contract(ds::index_set::shared(table(ids, {3})));
  std::uint8_t mask[24 * 23];
  for (std::size_t i = 0; i < sizeof mask; ++i) mask[i] = i % 5 == 1;
  const ds::view<const std::uint8_t, ds::host, 24, 23> pairs(mask, {24, 23});
  keeps_the_contract(ds::given_mask(pairs));
  keeps_the_contract(ds::given_blocks(pairs, 2));
  keeps_the_contract(ds::any_pattern(mixed{}));
  keeps_the_contract(ds::any_pattern());
}
TEST_CASE("a pattern that is written out keeps the contract") {
  const ds::block_list_sizes sizes{.queries = 100, .keys = 23, .heads = 2, .start = -10};
  const auto of_heads = ds::list_blocks(ds::make_pattern<mixed>({7, 3}), sizes);
  const auto of_all = ds::list_blocks(ds::any_pattern(own{}), {.queries = 90, .keys = 20});
  REQUIRE((of_heads.lists == 2 && of_all.lists == 1));
  keeps_the_contract(ds::block_list(of_heads));
  keeps_the_contract(ds::block_list(of_all));
  CHECK(heads_agree(ds::block_list(of_all)));
  keeps_the_contract(ds::block_list());
  keeps_the_contract(ds::both<ds::causal, ds::block_list>({}, ds::block_list(of_all)));
}
TEST_CASE("a table of blocks keeps the contract") {
  std::int32_t ids[24][2][3];
  for (std::int32_t q = 0; q < 24; ++q) {
    for (std::int32_t g = 0; g < 2; ++g) {
      for (std::int32_t i = 0; i < 3; ++i) ids[q][g][i] = i > q % 3 ? -1 : (q + g) / 4 + 2 * i;
    }
  }
  const ds::view<const std::int32_t, ds::host, 24, 2, 3> table(ids[0][0], {24, 2, 3});
  keeps_the_contract(ds::block_set<4>(table, 2));
  keeps_the_contract(ds::block_set<1>(table, 2));
  keeps_the_contract(ds::both<ds::causal, ds::block_set<3>>(ds::causal{}, {table, 2}));
  const auto second = ds::bind_pattern(ds::block_set<4>(table, 2), {.head = 1, .keys = 24});
  CHECK((second.visible(3, 4) && !second.visible(3, 3) && !second.visible(30, 4)));
}
