// SPDX-License-Identifier: Apache-2.0
// bigbird: its blocks against the published construction, written here a second time as sets of
// candidates (the generator apart): every draw is a candidate, as many as asked for, without
// repetition, and over many seeds each candidate is drawn about as often as any other.
#include "deepseek/pattern/bigbird.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_blocks.hpp"

#include "pattern/cover_case.hpp"
#include "support/throws.hpp"

#include <cmath>
#include <set>

using namespace pattern_test;

namespace {

using blocks = std::set<index_t>;

// Blocks first .. last - 1 without the window of i and what the published code calls illegal.
blocks legal(index_t i, index_t first, index_t last) {
  blocks out;
  for (index_t b = first; b < last; ++b) out.insert(b);
  for (index_t b : {i - 1, i, i + 1, index_t{0}, last - 1}) out.erase(b);
  if (i == 1) out.erase(last - 2);
  if (i == last - 2) out.erase(1);
  return out;
}

struct plan_part {
  blocks from;
  index_t count;
};

// What row i of n draws from: the paper's rule, and the published code's plan.
std::vector<plan_part> plan(bigbird_draws form, index_t block, index_t n, index_t r, index_t i) {
  if (form == bigbird_draws::even) return {{legal(i, 0, n), r}};
  const index_t length = n * block;
  if (length == 1024 || length == 2048 || length == 3072 || length == 4096) {
    blocks from;
    const index_t last = 1024 / block - 1;
    for (index_t b = 1; b <= last; ++b) {
      if (b < i - 1 || b > i + 1) from.insert(b);
    }
    return {{from, r}};
  }
  if (2 * r + 5 < n) return {{legal(i, 0, 2 * r + 5), r}};
  if (r + 5 < n) return {{legal(i, 0, r + 5), r / 2}, {legal(i, r + 5, n), r - r / 2}};
  return {{legal(i, 0, n), r}};
}

void follows_the_plan(bigbird_draws form, index_t block, index_t n, index_t r) {
  CAPTURE(block);
  CAPTURE(n);
  const bigbird_sizes sizes{block, r, form};
  const std::size_t most = static_cast<std::size_t>(r);
  constexpr index_t rounds = 200;
  for (index_t i = 1; i < n - 1; ++i) {
    const auto parts = plan(form, block, n, r, i);
    std::vector<index_t> seen(static_cast<std::size_t>(n));
    bool fits = true;
    for (index_t head = 0; head < rounds; ++head) {
      std::vector<std::uint32_t> drawn(most);
      drawn.resize(sizes.draw({5, 1}, {.head = head, .keys = n * block}, i, drawn.data()));
      fits = fits && std::set<std::uint32_t>(drawn.begin(), drawn.end()).size() == drawn.size();
      for (std::uint32_t b : drawn) ++seen[b];
      index_t wanted = 0;
      for (const plan_part& p : parts) {
        index_t here = 0;
        for (std::uint32_t b : drawn) here += p.from.contains(b) ? 1 : 0;
        const index_t count = std::min(p.count, static_cast<index_t>(p.from.size()));
        fits = fits && here == count;
        wanted += count;
      }
      fits = fits && static_cast<index_t>(drawn.size()) == wanted;
    }
    CHECK(fits);
    for (const plan_part& p : parts) {
      if (p.from.empty()) continue;
      const double chance =
          std::min(1.0, static_cast<double>(p.count) / static_cast<double>(p.from.size()));
      const double deviation = std::sqrt(rounds * chance * (1 - chance));
      for (index_t b : p.from) {
        const double times = static_cast<double>(seen[static_cast<std::size_t>(b)]);
        CHECK(std::fabs(times - rounds * chance) <= 5 * deviation);
      }
    }
  }
}

}  // namespace

TEST_CASE("draws follow the published plan, block for block but for the generator") {
  for (index_t n : {5, 6, 8, 11, 12, 16, 32, 40}) {
    follows_the_plan(bigbird_draws::even, 64, n, 3);
    follows_the_plan(bigbird_draws::published, 64, n, 3);
  }
  follows_the_plan(bigbird_draws::published, 64, 64, 3);
  follows_the_plan(bigbird_draws::published, 16, 9, 4);
  follows_the_plan(bigbird_draws::even, 4, 9, 2);
}

TEST_CASE("the mask: edges and windows are whole, draws are added; create_sparse_mask") {
  using pattern = bigbird<2, 1>;
  const auto made = make_pattern<pattern>({7, 3});
  const index_t n = 7;  // 14 keys
  const auto p = bind_pattern(made, pattern_scope{.head = 1, .keys = keys});
  const auto mask =
      create_sparse_mask(keys, {.block_size = 2, .num_random_blocks = 1, .key = {7, 3}, .head = 1});
  REQUIRE(mask.size() == 49);
  for (index_t i = 0; i < n; ++i) {
    index_t more = 0;
    for (index_t j = 0; j < n; ++j) {
      const bool edge = i == 0 || j == 0 || i == n - 1 || j == n - 1;
      const bool seen = mask[static_cast<std::size_t>(i * n + j)] != 0;
      CHECK(seen == p.visible(2 * i + 1, 2 * j));
      if (edge || (j - i <= 1 && i - j <= 1)) {
        CHECK(seen);
      } else {
        more += seen ? 1 : 0;
      }
    }
    CHECK(more == (i == 0 || i == n - 1 ? 0 : 1));
  }
  const given_blocks table(view<const std::uint8_t, host, dyn, dyn>(mask.data(), {n, n}), 2);
  // Positions beyond the keys belong to no block of the table.
  check("bigbird", made, cover_is::exact, [&](index_t q, index_t k) {
    if (q >= 0 && q < keys) return table.visible(q, k);
    const index_t i = block_of(q, 2), j = k / 2;
    return j == 0 || j == n - 1 || (j - i <= 1 && i - j <= 1);
  });
  // The default of the articles: blocks of 64, three of them at random.
  const auto usual = create_sparse_mask(16 * 64);
  for (index_t i = 1; i < 15; ++i) {
    index_t seen = 0;
    for (index_t j = 0; j < 16; ++j) seen += usual[static_cast<std::size_t>(i * 16 + j)];
    CHECK(seen == (i == 1 || i == 14 ? 4 : 5) + 3);
  }
}

TEST_CASE("looking back: first block, window, draws before it; no length matters") {
  using pattern = both<causal, bigbird<2, 2>>;
  const auto made = make_pattern<pattern>({9, 2});
  const auto whole = bind_pattern(made, pattern_scope{.head = 3, .keys = 300});
  index_t differ = 0, wrong = 0;
  for (index_t q = 0; q < 60; ++q) {
    const auto now = bind_pattern(made, pattern_scope{.head = 3, .keys = q + 1});
    const index_t i = q / 2;
    blocks seen;
    for (index_t k = 0; k < 60; ++k) {
      differ += now.visible(q, k) != whole.visible(q, k);
      wrong += whole.visible(q, k) && k > q;
      if (whole.visible(q, k)) seen.insert(k / 2);
    }
    for (index_t j : {index_t{0}, i - 1, i}) wrong += j >= 0 && !seen.contains(j);
    const index_t sure = i < 2 ? i + 1 : 3, free = i < 3 ? 0 : std::min<index_t>(2, i - 2);
    wrong += static_cast<index_t>(seen.size()) != sure + free;
  }
  CHECK(differ == 0);
  CHECK(wrong == 0);
  check("causal", made, cover_is::safe, [&](index_t q, index_t k) {
    return bind_pattern(made, pattern_scope{.head = 1, .keys = keys}).visible(q, k);
  });
}

TEST_CASE("bigbird: errors") {
  using pattern = bigbird<64, 3>;
  CHECK_ERROR(error_code::invalid_argument, "250 keys are not 5 or more blocks of 64",
              require_pattern(pattern{}, {.keys = 250}));
  CHECK_ERROR(error_code::invalid_argument, "256 keys", require_pattern(pattern{}, {.keys = 256}));
  require_pattern(pattern{}, {.keys = 320});
  require_pattern(pattern{}, {.keys = 0});
  require_pattern(both<causal, pattern>{}, {.keys = 250});
  CHECK_ERROR(error_code::invalid_argument, "256 keys",
              require_pattern(either<causal, pattern>{}, {.keys = 256}));
  CHECK_ERROR(error_code::invalid_argument, "100 tokens", create_sparse_mask(100));
  CHECK_ERROR(error_code::invalid_argument, "block_size is 0",
              create_sparse_mask(100, {.block_size = 0}));
  CHECK_ERROR(error_code::invalid_argument, "block_size is 512",
              create_sparse_mask(5120, {.block_size = 512, .form = bigbird_draws::published}));
  CHECK_ERROR(error_code::invalid_argument, "num_random_blocks is -1",
              create_sparse_mask(640, {.num_random_blocks = -1}));
}
