// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V3's form against the published implementation: sigmoid scores, a bias (also negative)
// that chooses and does not weigh, groups ranked by the sum of their two best, weights normalised
// and times 2.5, YaRN with mscale 1. The layer of multi-token prediction in the files is skipped.
#include "parity.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::mla_config latent{.dim = 32,
                                       .heads = 4,
                                       .q_rank = 20,
                                       .kv_rank = 16,
                                       .nope_dim = 8,
                                       .rope_dim = 4,
                                       .v_dim = 6,
                                       .theta = 100,
                                       .scaling = {.kind = ds::rope_scaling_kind::yarn,
                                                   .factor = 4,
                                                   .original_length = 16,
                                                   .mscale = 1,
                                                   .mscale_all_dim = 1},
                                       .form = ds::latent_form::naive};
inline constexpr ds::moe_config experts{
    .dim = 32, .hidden = 12, .routed = 8, .shared = 2, .active = 3};
inline constexpr ds::gate_config gate = [] {
  auto g = ds::bias_balanced_gate;
  g.groups = 4;
  g.top_groups = 2;
  return g;
}();
using attention = ds::latent_attention<latent, ds::causal>;
using dense = ds::transformer_block<attention, ds::swiglu<32, 40>>;
using sparse = ds::transformer_block<attention, ds::moe<experts, ds::top_k_gate<gate>>>;
struct net : ds::chain<ds::embedding<48, 32>, ds::repeat<1, dense>, ds::repeat<2, sparse, 1>,
                       ds::rms_norm<32>, ds::called<"head", ds::linear<32, 48>>> {};

}  // namespace

TEST_CASE("V3: the published logits") {
  parity::check_float<net>("deepseek_v3");
  parity::check_bf16<net>("deepseek_v3_bf16", 3);
}
