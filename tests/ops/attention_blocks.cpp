// SPDX-License-Identifier: Apache-2.0
// attention over lists of blocks (pattern block_set) on the cpu, where queries of many heads are
// taken one by one and those of few in tiles: against the oracle with the same mask, both passes,
// both ways and looking back; only listed blocks are visited; hidden blocks of any kind.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block_set.hpp"
#include "deepseek/pattern/combine.hpp"

using namespace attention_test;

namespace {

constexpr index_t block_size = 16;
using blocks = block_set<block_size>;
using looking_back = both<causal, blocks>;

// Query i of key-value head g sees block 0, its own, and one that wanders; some rows list one.
struct lists {
  index_t rows, kv_heads, count = 3;
  std::vector<std::int32_t> ids;

  lists(const problem& p, index_t start) : rows(p.n), kv_heads(p.hk) {
    for (index_t i = 0; i < p.n; ++i) {
      for (index_t g = 0; g < p.hk; ++g) {
        const index_t own = (start + i) / block_size;
        std::vector<std::int32_t> row{0};
        if ((i + g) % 7 != 0) row.push_back(static_cast<std::int32_t>((i * 5 + g * 3) % (own + 2)));
        row.push_back(static_cast<std::int32_t>(own));
        std::sort(row.begin(), row.end());
        row.erase(std::unique(row.begin(), row.end()), row.end());
        row.resize(3, -1);
        ids.insert(ids.end(), row.begin(), row.end());
      }
    }
  }
  blocks pattern(index_t heads) const {
    return {view<const std::int32_t, host, dyn, dyn, dyn>(ids.data(), {rows, kv_heads, count}),
            heads};
  }
  bool holds(index_t i, index_t g, index_t block) const {
    const auto* row = ids.data() + (i * kv_heads + g) * count;
    return std::find(row, row + count, static_cast<std::int32_t>(block)) != row + count;
  }
};

const problem problems[] = {
    {.n = 150, .m = 150, .h = 8, .hk = 2, .d = 16, .dv = 24},
    {.n = 70, .m = 70, .h = 16, .hk = 1, .d = 8, .dv = 8},
    {.n = 1, .m = 130, .h = 12, .hk = 1, .d = 8, .dv = 16},
    {.n = 100, .m = 140, .h = 2, .hk = 2, .d = 8, .dv = 5},
};

index_t start_of(const problem& p) {
  return p.m - p.n;
}
rule rule_of(const problem& p, const lists& l, bool back) {
  return [&p, &l, back](index_t h, index_t q, index_t k, index_t) {
    return (!back || k <= q) && l.holds(q - start_of(p), h / (p.h / p.hk), k / block_size);
  };
}

}  // namespace

TEST_CASE("attention blocks: the dense oracle with the same mask") {
  const cpu b({.threads = 2});
  for (const problem& p : problems) {
    const lists l(p, start_of(p));
    const looking_back back(causal{}, l.pattern(p.h));
    run<float>(b, p, back, rule_of(p, l, true), case_name(p, "blocks causal f32"),
               wanted::gradients);
    run<double>(b, p, back, rule_of(p, l, true), case_name(p, "blocks causal f64"),
                wanted::gradients);
    run<double>(b, p, l.pattern(p.h), rule_of(p, l, false), case_name(p, "blocks f64"),
                wanted::gradients);
  }
}

TEST_CASE("attention blocks: bits depend on neither threads nor hidden keys") {
  const problem& p = problems[0];
  const lists l(p, 0);
  const auto outcome = [&](const data& x, int threads) {
    arrays<float> a(p, x);
    const cpu b({.threads = threads});
    const auto spec = spec_of(p, looking_back(causal{}, l.pattern(p.h)));
    a.forward(b, spec);
    a.backward(b, spec);
    return results(a, wanted::gradients);
  };
  const data x = draw<float>(p, "blocks");
  CHECK(same(outcome(x, 1), outcome(x, 2)));
  // Values of block 3 that only those see who list it.
  data zero = x, dirty = x;
  const index_t row = p.hk * p.dv, first = 3 * block_size;
  std::fill_n(zero.v.begin() + first * row, block_size * row, 0.0);
  std::fill_n(dirty.v.begin() + first * row, block_size * row, std::nan(""));
  const auto a = outcome(zero, 1)[0], b = outcome(dirty, 1)[0];
  const auto sees = rule_of(p, l, true);
  index_t hidden = 0, shown = 0;
  bool equal = true, poisoned = true;
  for (index_t i = 0; i < p.n; ++i) {
    for (index_t h = 0; h < p.h; ++h) {
      const auto at = static_cast<std::size_t>((i * p.h + h) * p.dv);
      const bool visible = sees(h, i, first, p.m);
      ++(visible ? shown : hidden);
      if (visible) poisoned = poisoned && std::isnan(b[at]);
      if (!visible) equal = equal && a[at] == b[at];
    }
  }
  CHECK(hidden > 100);
  CHECK(shown > 100);
  CHECK(equal);
  CHECK(poisoned);
}

TEST_CASE("attention blocks: a query visits the tiles of its own list") {
  const problem p{.n = 640, .m = 640, .h = 4, .hk = 1, .d = 4, .dv = 4};
  lists l(p, 0);
  const looking_back back(causal{}, l.pattern(p.h));
  const cpu_attention::head_group<looking_back> group{back, {0, p.n, 0, p.m, 0}, 0, p.h};
  CHECK(group.queries_per_tile() == 1);
  for (index_t i = 0; i < p.n; ++i) {
    index_t tiles = 0, listed = 0;
    cpu_attention::for_each_key_tile(group, i, i + 1, {0, p.m},
                                     [&](index_t, coverage, index_t) { ++tiles; });
    for (index_t k0 = 0; k0 < p.m; k0 += 64) {
      bool some = false;
      for (index_t k = k0; k <= std::min(i, k0 + 63); ++k) {
        some = some || l.holds(i, 0, k / block_size);
      }
      listed += some ? 1 : 0;
    }
    CHECK(tiles == listed);
  }
}
