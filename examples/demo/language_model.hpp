// SPDX-License-Identifier: Apache-2.0
// The demo's language model: bytes in, bytes out, a mixture of experts, composed from types.
#pragma once

#include <deepseek/deepseek.hpp>

namespace demo {

namespace ds = deepseek;

inline constexpr ds::index_t window = 256;  // bytes of context in training and evaluation

inline constexpr ds::attention_config heads{.dim = 192, .heads = 6};
inline constexpr ds::moe_config experts{
    .dim = 192, .hidden = 256, .routed = 8, .shared = 1, .active = 2, .balance = 0.01};

using gate = ds::softmax_top_k<ds::renormalize::yes>;
using layer =
    ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::moe<experts, gate>>;

struct net : ds::chain<ds::embedding<256, 192>,  // a byte becomes a vector
                       ds::repeat<4, layer>,     // attention, then experts, four times
                       ds::rms_norm<192>,        //
                       ds::called<"head", ds::linear<192, 256>>> {};  // scores of the next byte

using model = ds::model<net, float, ds::cpu>;
using token_ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// Parameters that one token meets: of the routed experts only the active ones.
inline ds::index_t active_parameters(const model& m) {
  ds::index_t n = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (at.role == ds::field_role::state) return;
        const bool routed = at.path.find(".experts.") != std::string::npos;
        n += routed ? t.size() / experts.routed * experts.active : t.size();
      },
      m.parameters());
  return n;
}

inline constexpr ds::index_t cache_bytes_per_token =
    4 * 2 * heads.dim * 4;  // layers, k and v, float

}  // namespace demo
