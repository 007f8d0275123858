// SPDX-License-Identifier: Apache-2.0
// random_blocks: draws are without replacement, evenly spread, their own for every seed, site, head
// and query block, and in a pattern that looks back the same for every length.
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"

#include <doctest/doctest.h>
#include <cmath>
#include <set>
#include <vector>

using namespace deepseek;

namespace {

template <index_t B, index_t R>
std::vector<std::uint32_t> drawn(const random_blocks<B, R>& p, index_t block) {
  const auto d = p.draw(block);
  return {d.blocks, d.blocks + d.count};
}

}  // namespace

TEST_CASE("draws are distinct and inside the keys") {
  for (index_t keys : {1, 7, 8, 9, 64, 1000}) {
    const random_blocks<8, 5> p{{3, 4}, {.head = 2, .keys = keys}};
    const index_t blocks = (keys + 7) / 8;
    for (index_t q = -3; q < 40; ++q) {
      const auto d = drawn(p, q);
      CHECK(static_cast<index_t>(d.size()) == std::min<index_t>(5, blocks));
      CHECK(std::set<std::uint32_t>(d.begin(), d.end()).size() == d.size());
      for (std::uint32_t b : d) CHECK(static_cast<index_t>(b) < blocks);
    }
  }
}

TEST_CASE("looking back, block i draws from 0 .. i") {
  const random_blocks<8, 3> p{{3, 4}, {.keys = 800, .seen = reach::past}};
  for (index_t q = -2; q < 100; ++q) {
    const auto d = drawn(p, q);
    CHECK(static_cast<index_t>(d.size()) == std::max<index_t>(0, std::min<index_t>(3, q + 1)));
    for (std::uint32_t b : d) CHECK(static_cast<index_t>(b) <= q);
  }
}

TEST_CASE("draws are even") {
  // 4 of 16 blocks, 40000 draws: each block expects 10000, deviation sqrt(40000 p (1 - p)) = 87.
  constexpr int rounds = 40000;
  std::vector<int> count(16), first(16);
  for (int i = 0; i < rounds; ++i) {
    const random_blocks<4, 4> p{{99, 5}, {.head = i % 50, .keys = 64}};
    const auto d = drawn(p, i / 50);
    for (std::uint32_t b : d) ++count[b];
    ++first[d[0]];
  }
  for (int b = 0; b < 16; ++b) {
    const auto at = static_cast<std::size_t>(b);
    CHECK(std::abs(count[at] - rounds / 4) < 5 * 87);
    CHECK(std::abs(first[at] - rounds / 16) < 5 * 48);
  }
}

TEST_CASE("every part of the key counts") {
  const pattern_scope scope{.head = 1, .keys = 6400};
  const random_blocks<64, 8> p{{1, 2}, scope};
  const auto d = drawn(p, 10);
  CHECK(d == drawn(random_blocks<64, 8>{{1, 2}, scope}, 10));
  CHECK(d != drawn(p, 11));
  CHECK(d != drawn(random_blocks<64, 8>{{2, 2}, scope}, 10));
  CHECK(d != drawn(random_blocks<64, 8>{{std::uint64_t{1} << 40 | 1, 2}, scope}, 10));
  CHECK(d != drawn(random_blocks<64, 8>{{1, 3}, scope}, 10));
  CHECK(d != drawn(random_blocks<64, 8>{{1, 2}, {.head = 2, .keys = 6400}}, 10));
}

TEST_CASE("prefill equals decoding: no length matters when looking back") {
  using pattern = both<causal, either<local<2>, random_blocks<4, 2>>>;
  const auto made = make_pattern<pattern>({8, 1});
  const auto whole = bind_pattern(made, {.head = 3, .keys = 200});
  index_t differ = 0, beyond_window = 0;
  for (index_t q = 0; q < 200; ++q) {
    const auto now = bind_pattern(made, {.head = 3, .keys = q + 1});
    for (index_t k = 0; k <= q; ++k) {
      differ += whole.visible(q, k) != now.visible(q, k);
      beyond_window += whole.visible(q, k) && q - k > 2;
    }
  }
  CHECK(differ == 0);
  CHECK(beyond_window > 500);
  // Without a part that looks back it draws from all, so the length does matter.
  const auto open = make_pattern<random_blocks<4, 2>>({8, 1});
  const auto few = bind_pattern(open, {.head = 3, .keys = 20});
  const auto many = bind_pattern(open, {.head = 3, .keys = 200});
  index_t other = 0;
  for (index_t q = 0; q < 20; ++q) {
    for (index_t k = 0; k < 20; ++k) other += few.visible(q, k) != many.visible(q, k);
  }
  CHECK(other > 0);
}

TEST_CASE("zero and all blocks") {
  const random_blocks<8, 0> nobody{{1, 1}, {.keys = 80}};
  CHECK(nobody.cover({0, 80, 0, 80}) == coverage::none);
  CHECK(nobody.next_keys(0, 80, 0) == key_span{});
  const random_blocks<8, 50> all{{1, 1}, {.keys = 80}};
  CHECK(all.cover({0, 80, 0, 80}) == coverage::full);
}
