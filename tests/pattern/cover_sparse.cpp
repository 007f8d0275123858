// SPDX-License-Identifier: Apache-2.0
// The sparse patterns of the papers, exhaustively on small positions: dilated, strided, windowed,
// fixed, global tokens, streaming, documents, tables of blocks, shared lists, and combinations.
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/dilated.hpp"
#include "deepseek/pattern/documents.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/given_blocks.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/streaming.hpp"

#include "pattern/cover_case.hpp"
#include "support/throws.hpp"

using namespace pattern_test;

namespace {

index_t size_of(index_t x) {
  return x < 0 ? -x : x;
}

// check() and the same with later keys hidden.
template <class P, class Rule>
void check_both_ways(const std::string& name, const P& p, cover_is how, Rule rule) {
  check(name, p, how, rule);
  check(name + " causal", both<causal, P>(causal{}, p), cover_is::safe,
        [&](index_t q, index_t k) { return k <= q && rule(q, k); });
}

}  // namespace

TEST_CASE("every Nth key: dilated and strided") {
  check_both_ways("dilated 2 3", dilated<2, 3>{}, cover_is::exact, [](index_t q, index_t k) {
    return size_of(q - k) <= 6 && size_of(q - k) % 3 == 0;
  });
  check_both_ways("dilated 5 1", dilated<5, 1>{}, cover_is::exact,
                  [](index_t q, index_t k) { return size_of(q - k) <= 5; });
  check_both_ways("dilated 0 4", dilated<0, 4>{}, cover_is::exact,
                  [](index_t q, index_t k) { return q == k; });
  check_both_ways("strided 4", strided<4>{}, cover_is::exact,
                  [](index_t q, index_t k) { return size_of(q - k) % 4 == 0; });
  check_both_ways("strided 1", strided<1>{}, cover_is::exact,
                  [](index_t, index_t) { return true; });
  check_both_ways("strided 11", strided<11>{}, cover_is::exact,
                  [](index_t q, index_t k) { return size_of(q - k) % 11 == 0; });
  // Two queries of one residue and its neighbour: spans skip what lies between.
  static_assert(strided<100>::next_keys(205, 207, 8) == key_span{105, 107});
  static_assert(strided<100>::next_keys(205, 207, 6) == key_span{6, 7});
  static_assert(dilated<2, 100>::next_keys(1000, 1001, 0) == key_span{800, 801});
}

TEST_CASE("windows that do not overlap") {
  check_both_ways("windowed 5", windowed<5>{}, cover_is::exact,
                  [](index_t q, index_t k) { return block_of(q, 5) == block_of(k, 5); });
}

TEST_CASE("fixed: own block and summary columns") {
  check_both_ways("fixed 4", fixed<4>{}, cover_is::exact, [](index_t q, index_t k) {
    return block_of(q, 4) == block_of(k, 4) || k % 4 == 3;
  });
  check_both_ways("fixed 5 2", fixed<5, 2>{}, cover_is::exact, [](index_t q, index_t k) {
    return block_of(q, 5) == block_of(k, 5) || k % 5 >= 3;
  });
  // Bound to head 1 by check(): the vertical before the last one.
  check_both_ways("fixed 6 2 3", fixed<6, 2, 3>{}, cover_is::exact, [](index_t q, index_t k) {
    return block_of(q, 6) == block_of(k, 6) || (k % 6 >= 2 && k % 6 < 4);
  });
  check_both_ways("fixed all", fixed<3, 3>{}, cover_is::exact,
                  [](index_t, index_t) { return true; });
  using heads = fixed<8, 2, 4>;
  for (index_t h = 0; h < 8; ++h) {
    const auto bound = bind_pattern(heads{}, pattern_scope{.head = h});
    for (index_t k = 0; k < 8; ++k) CHECK(bound.visible(100, k) == (k / 2 == 3 - h % 4));
  }
}

TEST_CASE("global tokens, the first and listed ones") {
  check_both_ways("global 0", global_tokens<0>{}, cover_is::exact,
                  [](index_t, index_t) { return false; });
  check_both_ways("global 3", global_tokens<3>{}, cover_is::exact,
                  [](index_t q, index_t k) { return (q >= 0 && q < 3) || k < 3; });
  const std::int32_t at[] = {2, 3, 9, 70};
  const global_set listed(view<const std::int32_t, host, dyn>(at, {4}));
  const auto in = [](index_t x) { return x == 2 || x == 3 || x == 9 || x == 70; };
  check_both_ways("listed", listed, cover_is::exact,
                  [&](index_t q, index_t k) { return in(q) || in(k); });
  check("nobody listed", global_set(view<const std::int32_t, host, dyn>(at, {0})), cover_is::exact,
        [](index_t, index_t) { return false; });
  check("with a window", either<local<1>, global_set>(local<1>{}, listed), cover_is::safe,
        [&](index_t q, index_t k) { return size_of(q - k) <= 1 || in(q) || in(k); });
  const std::int32_t twice[] = {2, 2}, below[] = {-1, 2};
  using table = view<const std::int32_t, host, dyn>;
  listed.check({});
  CHECK_ERROR(error_code::invalid_argument, "positions[1] is 2",
              global_set(table(twice, {2})).check({}));
  CHECK_ERROR(error_code::invalid_argument, "positions[0] is -1",
              require_pattern(both<causal, global_set>({}, global_set(table(below, {2}))), {}));
}

TEST_CASE("streaming: sinks and a window") {
  check("streaming 2 3", streaming<2, 3>{}, cover_is::exact,
        [](index_t q, index_t k) { return k <= q && (k < 2 || q - k < 3); });
  check("no sinks", streaming<0, 4>{}, cover_is::exact,
        [](index_t q, index_t k) { return k <= q && q - k < 4; });
  check("sinks only", streaming<5, 1>{}, cover_is::exact,
        [](index_t q, index_t k) { return k <= q && (k < 5 || q == k); });
  check("everything", streaming<40, 1>{}, cover_is::exact,
        [](index_t q, index_t k) { return k <= q; });
}

TEST_CASE("documents of one sequence") {
  const index_t lengths[] = {3, 0, 5, 1, 0, 4};
  const std::vector<std::int32_t> offsets = document_offsets(lengths);
  CHECK(offsets == std::vector<std::int32_t>{0, 3, 3, 8, 9, 9, 13});
  using table = view<const std::int32_t, host, dyn>;
  const documents texts(table(offsets.data(), {7}));
  const auto of = [](index_t x) {
    return x < 0 || x >= 13 ? index_t{-1} : x < 3 ? 0 : x < 8 ? 2 : x < 9 ? 3 : 5;
  };
  check_both_ways("documents", texts, cover_is::exact,
                  [&](index_t q, index_t k) { return of(q) >= 0 && of(q) == of(k); });
  check("no document", documents(table(offsets.data(), {1})), cover_is::exact,
        [](index_t, index_t) { return false; });
  texts.check({.keys = 13});
  CHECK_ERROR(error_code::shape_mismatch, "offsets end at 13 for 14 keys",
              texts.check({.keys = 14}));
  const std::int32_t falling[] = {0, 4, 2}, late[] = {1, 4};
  CHECK_ERROR(error_code::offsets, "offsets[2] is 2, less than 4",
              documents(table(falling, {3})).check({}));
  CHECK_ERROR(error_code::offsets, "begin with 0", documents(table(late, {2})).check({}));
  CHECK_ERROR(error_code::offsets, "begin with 0", documents{}.check({}));
  const index_t negative[] = {3, -1}, huge[] = {1 << 30, 1 << 30};
  CHECK_ERROR(error_code::invalid_argument, "a length is -1", document_offsets(negative));
  CHECK_ERROR(error_code::overflow, "2147483648 positions", document_offsets(huge));
}

TEST_CASE("a table of blocks") {
  const std::uint8_t mask[] = {1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1};
  const given_blocks seen(view<const std::uint8_t, host, dyn, dyn>(mask, {4, 4}), 3);
  check_both_ways("blocks", seen, cover_is::exact, [&](index_t q, index_t k) {
    return q >= 0 && q < 12 && k < 12 && mask[q / 3 * 4 + k / 3] != 0;
  });
  CHECK_ERROR(error_code::invalid_argument, "a block of 0",
              given_blocks(view<const std::uint8_t, host, dyn, dyn>(mask, {4, 4}), 0).check({}));
}

TEST_CASE("one list of keys for all queries") {
  const std::int32_t ids[] = {1, 4, 5, 12, -1};
  const view<const std::int32_t, host, dyn> list(ids, {5});
  for (const index_order how : {index_order::any, index_order::ascending}) {
    const index_set set = index_set::shared(list, how);
    // A table has rows for the queries of the call only: none before its first.
    const auto rule = [](index_t q, index_t k) {
      return q >= 0 && (k == 1 || k == 4 || k == 5 || k == 12);
    };
    check_both_ways("shared", set, cover_is::exact, rule);
    CHECK(bind_pattern(set, {.row = 90, .start = 500}).visible(700, 12));
  }
}
