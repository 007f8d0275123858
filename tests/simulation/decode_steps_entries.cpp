// SPDX-License-Identifier: Apache-2.0
// Recorded decode steps of each kind of DeepSeek-V4's attention, with the widths that tensor cores
// take: replays have the bits of steps launched one by one.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/compressed_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/residual.hpp"

#include "simulation/stepped_pair.hpp"

namespace ds = deepseek;
using steps_test::stepped_pair;

namespace {

template <ds::compressed_attention_config C>
struct net : ds::chain<ds::embedding<11, C.dim>, ds::residual<ds::compressed_attention<C>>,
                       ds::called<"head", ds::linear<C.dim, 11>>> {};

// Heads of 512 in 16 bits: tensor cores; chosen entries are gathered.
constexpr ds::compressed_attention_config wide(ds::index_t ratio, ds::overlap how,
                                               ds::index_t selected) {
  ds::compressed_attention_config c{.dim = 16,
                                    .heads = 8,
                                    .head_dim = 512,
                                    .rope_dim = 64,
                                    .q_rank = 8,
                                    .groups = 2,
                                    .group_rank = 8,
                                    .window = 4};
  c.ratio = ratio, c.windows = how, c.selected = selected;
  if (selected > 0) c.index_heads = 2, c.index_dim = 64;
  return c;
}

}  // namespace

TEST_CASE("decode steps: each kind of compressed attention, tensor cores") {
  using enum ds::overlap;
  const auto expect = [](auto& p) {
    p.decode(3);
    p.step(20);
    CHECK(p.steps.not_replayed().empty());
    CHECK(p.steps.replayed() == 17);  // bounds of 8, 16 and 23
  };
  stepped_pair<net<wide(0, absent, 0)>, ds::bf16> window(23, 8);
  stepped_pair<net<wide(5, absent, 0)>, ds::bf16> all(23, 8);
  stepped_pair<net<wide(4, present, 2)>, ds::bf16> chosen(23, 8);
  expect(window);
  expect(all);
  expect(chosen);
}
