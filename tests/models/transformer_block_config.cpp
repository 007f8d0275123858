// SPDX-License-Identifier: Apache-2.0
// deepseek_transformer_block: names of a description to ours, paths, gradient with dropout in both
// branches, and that each rate reaches its own branch.
#include "deepseek/models/transformer_block_config.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr ds::transformer_block_config described{.hidden_size = 8,
                                                 .num_attention_heads = 2,
                                                 .attention_dropout = 0.2,
                                                 .moe_num_experts = 4,
                                                 .moe_top_k = 2,
                                                 .hidden_dropout = 0.5,
                                                 .expert_size = 6};
constexpr auto with(double attention, double hidden) {
  auto c = described;
  c.attention_dropout = attention;
  c.hidden_dropout = hidden;
  return c;
}
constexpr auto with_capacity(ds::index_t rows) {
  auto c = with(0, 0);
  c.expert_capacity = rows;
  return c;
}
using block = ds::deepseek_transformer_block<described>;

static_assert(described.attention() == ds::attention_config{.dim = 8, .heads = 2});
static_assert(described.experts().routed == 4 && described.experts().active == 2);
static_assert(described.experts().dim == 8 && described.experts().hidden == 6);
static_assert(ds::transformer_block_config{.hidden_size = 8}.experts().hidden == 32);
static_assert(!described.experts().capacity.limits());
static_assert(
    ds::transformer_block_config{.hidden_size = 8, .expert_capacity = 3}.experts().capacity.rows ==
    3);

template <class L>
std::vector<float> in_training(std::uint64_t seed) {
  const ds::cpu b;
  rows_of<float, 8> x(5);
  const layer_test::trial<L, float> t;
  return t.forward(b, x.view(), {.how = ds::mode::training, .seed = seed});
}

}  // namespace

TEST_CASE("deepseek_transformer_block: gradient, paths, rates") {
  rows_of<double, 8> x(5);
  layer_test::expect_layer_gradient<block>(ds::cpu{}, "deepseek_transformer_block", x.view());
  const layer_test::trial<block, float> t;
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names.find("attn_norm.weight attn.wq.weight ") == 0);
  CHECK(names.find("ffn_norm.weight ffn.gate.weight ") != std::string::npos);
  // No rate: the seed changes nothing; either rate alone: it does.
  using still = ds::deepseek_transformer_block<with(0, 0)>;
  using first = ds::deepseek_transformer_block<with(0.5, 0)>;
  using second = ds::deepseek_transformer_block<with(0, 0.5)>;
  CHECK(in_training<still>(1) == in_training<still>(2));
  CHECK(in_training<first>(1) != in_training<first>(2));
  CHECK(in_training<second>(1) != in_training<second>(2));
  // Five tokens choose twice among four experts: with room for one row each some are dropped.
  using tight = ds::deepseek_transformer_block<with_capacity(1)>;
  using wide = ds::deepseek_transformer_block<with_capacity(10)>;
  CHECK(in_training<tight>(1) != in_training<still>(1));
  CHECK(in_training<wide>(1) == in_training<still>(1));
}
