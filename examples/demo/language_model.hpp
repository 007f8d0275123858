// SPDX-License-Identifier: Apache-2.0
// The demo's language model: bytes in, bytes out, DeepSeek-V3 in small, composed from types: latent
// attention, experts that a bias keeps balanced and one that every byte meets, and one layer that
// predicts the byte after the next.
#pragma once

#include <deepseek/deepseek.hpp>

namespace demo {

namespace ds = deepseek;

inline constexpr ds::index_t window = 256;  // bytes of context in training and evaluation
inline constexpr ds::index_t layers = 4;

// One form in every call: the text does not depend on how many bytes a call takes.
inline constexpr ds::mla_config latent{.dim = 192,
                                       .heads = 6,
                                       .kv_rank = 64,
                                       .nope_dim = 32,
                                       .rope_dim = 16,
                                       .v_dim = 32,
                                       .form = ds::latent_form::absorbed};
inline constexpr ds::moe_config experts{
    .dim = 192, .hidden = 256, .routed = 8, .shared = 1, .active = 2};

using layer = ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                    ds::moe<experts, ds::sigmoid_top_k>>;

struct net : ds::with_mtp<ds::embedding<256, 192>,    // a byte becomes a vector
                          ds::repeat<layers, layer>,  // attention, then experts, four times
                          ds::mtp_layer<layer>,       // once more, for the byte after the next
                          ds::called<"head", ds::linear<192, 256>>> {};  // scores of a byte

using model = ds::model<net, float, ds::cpu>;
using token_ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// Parameters that one token meets when the next is predicted: of the routed experts only the active
// ones, and nothing of what predicts further.
inline ds::index_t active_parameters(const model& m) {
  ds::index_t n = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (at.role == ds::field_role::state || at.path.starts_with("mtp.")) return;
        const bool routed = at.path.find(".experts.") != std::string::npos;
        n += routed ? t.size() / experts.routed * experts.active : t.size();
      },
      m.parameters());
  return n;
}

// Of the layers that predict the next byte, in float; and of as many heads without latents.
inline constexpr ds::index_t cache_bytes_per_token = layers * latent.cache_width() * 4;
inline constexpr ds::index_t mha_cache_bytes_per_token =
    layers * latent.heads * (latent.key_dim() + latent.v_dim) * 4;

}  // namespace demo
