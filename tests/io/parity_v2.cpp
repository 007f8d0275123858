// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2's form against the published implementation: compressed queries, a gate limited to
// groups of experts (the best score ranks a group), weights times 16 and not renormalised. Groups
// that are left out are masked with minus infinity here and with 0 there: scores of a softmax are
// positive, so the choice is the same.
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
                                                   .mscale = 0.707,
                                                   .mscale_all_dim = 0.707},
                                       .form = ds::latent_form::naive};
inline constexpr ds::moe_config experts{
    .dim = 32, .hidden = 12, .routed = 8, .shared = 2, .active = 3};
inline constexpr ds::gate_config gate{.groups = 4, .top_groups = 2, .scale = 16};
using attention = ds::latent_attention<latent, ds::causal>;
using dense = ds::transformer_block<attention, ds::swiglu<32, 40>>;
using sparse = ds::transformer_block<attention, ds::moe<experts, ds::top_k_gate<gate>>>;
struct net : ds::chain<ds::embedding<48, 32>, ds::repeat<1, dense>, ds::repeat<2, sparse, 1>,
                       ds::rms_norm<32>, ds::called<"head", ds::linear<32, 48>>> {};

}  // namespace

TEST_CASE("V2: the published logits") {
  parity::check_float<net>("deepseek_v2");
  parity::check_bf16<net>("deepseek_v2_bf16", 3);
}
