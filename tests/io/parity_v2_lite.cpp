// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2-Lite's form against the published implementation: latent attention without query
// compression, YaRN with its softmax factor, softmax gate that is not renormalised, shared experts.
// The published class of transformers 5.24.0 multiplies the softmax scale by g(mscale_all_dim)^2,
// as DeepSeek's own code does; versions before July 2026 left that out.
#include "parity.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::mla_config latent{.dim = 32,
                                       .heads = 4,
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
using attention = ds::latent_attention<latent, ds::causal>;
using dense = ds::transformer_block<attention, ds::swiglu<32, 40>>;
using sparse = ds::transformer_block<attention, ds::moe<experts>>;
struct net
    : ds::chain<ds::embedding<48, 32>, ds::repeat<1, dense>, ds::repeat<2, sparse, 1>,
                ds::rms_norm<32>, ds::called<"head", ds::linear<32, 48>>> {};

}  // namespace

TEST_CASE("V2-Lite: the published logits") {
  parity::check_float<net>("deepseek_v2_lite");
  parity::check_bf16<net>("deepseek_v2_lite_bf16", 3);
}
