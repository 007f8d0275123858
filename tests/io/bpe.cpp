// SPDX-License-Identifier: Apache-2.0
// The merger against the definition (each time the lowest rank, the leftmost), and the cache.
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/bpe.hpp>

namespace {

namespace ds = deepseek;
using ids = std::vector<ds::token_id>;

ids by_definition(const std::vector<ds::merge_rule>& merges, ids tokens) {
  for (;;) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].left == tokens[i] && merges[rank].right == tokens[i + 1]) {
          best = rank;
          at = i;
        }
      }
    }
    if (best == merges.size()) return tokens;
    tokens[at] = merges[best].result;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST_CASE("bpe: random vocabularies and pieces, as defined") {
  std::mt19937 draw(11);
  ds::bpe_merger merger;
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<ds::merge_rule> merges;
    std::set<std::pair<int, int>> seen;
    ds::token_id next = 3;
    for (auto n = draw() % 12; n > 0; --n) {
      const auto a = static_cast<int>(draw() % static_cast<unsigned>(next));
      const auto b = static_cast<int>(draw() % static_cast<unsigned>(next));
      if (seen.insert({a, b}).second) merges.push_back({a, b, next++});
    }
    const ds::merge_table table(merges);
    ids tokens(draw() % 40);
    for (auto& token : tokens) token = static_cast<int>(draw() % 3);
    ids merged = tokens;
    merger.merge(table, merged);
    CHECK(merged == by_definition(merges, tokens));
  }
}

TEST_CASE("bpe: equal neighbours merge from the left") {
  ds::bpe_merger merger;
  const ds::merge_table table({{0, 0, 1}, {1, 0, 2}});
  ids tokens(5, 0);
  merger.merge(table, tokens);
  CHECK(tokens == ids{1, 2});
  tokens.clear();
  merger.merge(table, tokens);
  CHECK(tokens.empty());
}

TEST_CASE("merge_table: ranks, absent pairs, a pair given twice") {
  const ds::merge_table table({{1, 2, 3}, {2, 1, 4}, {1, 2, 5}});
  CHECK(table.size() == 3);
  CHECK(table.rank(1, 2) == 0);
  CHECK(table.rank(2, 1) == 1);
  CHECK(table.rank(1, 1) == ds::merge_table::none);
  CHECK(ds::merge_table().rank(0, 0) == ds::merge_table::none);
}

TEST_CASE("piece_cache: gives back what was kept, or nothing") {
  std::mt19937 draw(5);
  ds::piece_cache cache(1000), none(10);
  int known = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto length = 1 + draw() % 34;
    std::string piece;
    for (unsigned k = 0; k < length; ++k) piece += static_cast<char>('a' + draw() % 2);
    const ids tokens(1 + piece.size() / 4,
                     static_cast<int>(std::hash<std::string>{}(piece) % 1000));
    ids out{-5};
    if (cache.append(piece, out)) {
      ++known;
      ids wanted{-5};
      wanted.insert(wanted.end(), tokens.begin(), tokens.end());
      if (out != wanted) FAIL("another piece's tokens");
    } else {
      CHECK(out == ids{-5});
      cache.keep(piece, tokens);
    }
    none.keep(piece, tokens);
    CHECK(!none.append(piece, out));
  }
  CHECK(known > 100);
}
