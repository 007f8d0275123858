// SPDX-License-Identifier: Apache-2.0
// deepseek_transformer_block<config>: a pre-norm block of flash attention and experts, configured
// by the names that descriptions of such models use, and what each becomes here:
//   hidden_size          attention_config.dim, moe_config.dim, the width of both RMSNorms
//   num_attention_heads  attention_config.heads
//   attention_dropout    dropout of the attention's output before it is added. (Dropout of the
//                        softmax weights themselves, which such descriptions may mean, would need
//                        every weight of a flash tile again in backward; it is not offered.)
//   moe_num_experts      moe_config.routed
//   moe_top_k            moe_config.active
//   expert_capacity      moe_config.capacity.rows: rows that an expert takes in a call of training
//                        (the rest is dropped, layers/capacity.hpp); 0: all that choose it
//   hidden_dropout       dropout of the experts' output before it is added
//   expert_size          moe_config.hidden, which descriptions leave open; 0: 4 hidden_size
//   h = x + drop(Attention(RMSNorm(x)));   y = h + drop(MoE(RMSNorm(h)))
// Flash is how attention is computed, always; the pattern says who sees whom. Paths: attn_norm,
// attn, ffn_norm, ffn. Sources: Dao et al. 2022 (flash); Shazeer et al. 2017 (experts).
#pragma once

#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/pattern/band.hpp"

namespace deepseek {

struct transformer_block_config {
  index_t hidden_size = 0;          // > 0
  index_t num_attention_heads = 1;  // a divisor of hidden_size
  double attention_dropout = 0;     // 0 <= rate < 1
  index_t moe_num_experts = 1;      // > 0
  index_t expert_capacity = 0;      // >= 0
  index_t moe_top_k = 1;            // 1 .. moe_num_experts
  double hidden_dropout = 0;        // 0 <= rate < 1
  index_t expert_size = 0;          // >= 0
  bool operator==(const transformer_block_config&) const = default;

  constexpr attention_config attention() const {
    return {.dim = hidden_size, .heads = num_attention_heads};
  }
  constexpr moe_config experts() const {
    return {.dim = hidden_size,
            .hidden = expert_size > 0 ? expert_size : 4 * hidden_size,
            .routed = moe_num_experts,
            .active = moe_top_k,
            .capacity = {.rows = expert_capacity}};
  }
};

// A struct: g++ 12 cannot form moe of a config that a member function gives.
template <moe_config Experts, class Gate>
struct experts_by : moe<Experts, Gate> {};

template <transformer_block_config C, class Pattern = causal,
          class Gate = softmax_top_k<renormalize::yes>, class F = plain>
struct deepseek_transformer_block
    : chain<
          residual_branch<rms_norm<C.hidden_size>, multi_head_attention<C.attention(), Pattern, F>,
                          "attn_norm", dropout_config{.rate = C.attention_dropout}>,
          residual_branch<rms_norm<C.hidden_size>, reformatted<experts_by<C.experts(), Gate>, F>,
                          "ffn_norm", dropout_config{.rate = C.hidden_dropout}>> {
  static_assert(C.expert_capacity >= 0,
                "deepseek::deepseek_transformer_block: expert_capacity is negative; write 0 for no "
                "limit");
  template <class G>
  using with_format = deepseek_transformer_block<C, Pattern, Gate, G>;
};

}  // namespace deepseek
