// SPDX-License-Identifier: Apache-2.0
// Recorded decode steps of attention in several branches, pooled ones among them: replays have the
// bits of steps launched one by one, over rounds of the rings that keep the last rows.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dynamic_sparse_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/hierarchical_attention.hpp"
#include "deepseek/layers/multi_scale_attention.hpp"
#include "deepseek/layers/native_sparse_attention.hpp"

#include "simulation/stepped_pair.hpp"

namespace ds = deepseek;
using steps_test::stepped_pair;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::dynamic_sparse_config top{
    .attention = heads, .window = 3, .global = {.count = 3}};
inline constexpr ds::nsa_config native{
    .attention = heads,
    .stride = 2,
    .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
    .window = 3};
using blocks = ds::native_sparse_attention<native>;
using sparse = ds::dynamic_sparse_attention<top>;
using scales = ds::multi_scale_attention<heads, ds::learned_weights<>, ds::sliding<3>, 2, 4>;
using levels = ds::local_then_summary<heads, 3, 4>;

template <class L>
struct net : ds::chain<ds::embedding<11, 8>, L> {};

}  // namespace

TEST_CASE_TEMPLATE("decode steps: branches", L, blocks, sparse, scales, levels) {
  stepped_pair<net<L>, float> p(200, 64);
  p.decode(5);
  p.step(21);
  p.decode(33);
  p.step(15);  // to 74: the rings have 68 rows
  p.decode(60);
  p.step(12);
  p.rewind(130);
  p.step(3);
  p.decode(2);
  p.step(2);
  CHECK(p.steps.not_replayed().empty());
  CHECK(p.steps.recorded() == 3);
  CHECK(p.steps.replayed() == 50);  // less the first at each bound
}
