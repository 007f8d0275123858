// SPDX-License-Identifier: Apache-2.0
// Llama against the published implementation: grouped queries, llama3 and linear scaling of the
// rotary frequencies, a checkpoint of one file and one of shards.
#include "parity.hpp"

namespace ds = deepseek;

namespace {

// As config.json of the golden checkpoints says.
template <ds::attention_config C, ds::norm_config N>
struct net_of
    : ds::chain<ds::embedding<48, 32>,
                ds::repeat<
                    2, ds::transformer_block<ds::multi_head_attention<C, ds::causal>,
                                             ds::swiglu<32, 40>, {.rate = 0}, ds::rms_norm<32, N>>>,
                ds::rms_norm<32, N>, ds::called<"head", ds::linear<32, 48>>> {};

inline constexpr ds::attention_config llama3{
    .dim = 32,
    .heads = 4,
    .kv_heads = 2,
    .theta = 100,
    .scaling = {.kind = ds::rope_scaling_kind::llama3, .factor = 8, .original_length = 16}};
inline constexpr ds::attention_config linear{
    .dim = 32,
    .heads = 4,
    .kv_heads = 2,
    .theta = 1e5,
    .scaling = {.kind = ds::rope_scaling_kind::linear, .factor = 4}};
using llama3_net = net_of<llama3, ds::norm_config{.eps = 1e-5}>;
using linear_net = net_of<linear, ds::norm_config{.eps = 1e-6}>;

}  // namespace

TEST_CASE("llama3 scaling: the published logits") {
  parity::check_float<llama3_net>("llama_llama3");
  parity::check_bf16<llama3_net>("llama_llama3_bf16", 2);
}

TEST_CASE("linear scaling, in shards: the published logits") {
  parity::check_float<linear_net>("llama_linear");
  parity::check_bf16<linear_net>("llama_linear_bf16", 2);
}

TEST_CASE("another scaling is another model") {
  ds::cpu b;
  const ds::checkpoint_directory from(parity::golden / "llama_llama3");
  const auto m = ds::load_model<linear_net, float>(b, from);
  CHECK(parity::prefill_errors(b, m, "llama_llama3").row > 1e-2);
}
