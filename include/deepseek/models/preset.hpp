// SPDX-License-Identifier: Apache-2.0
// preset<config>::net: the layer type of a model_config, made of the same layers that users write:
//   chain<embedding, repeat<dense block>, repeat<block with experts>, rms_norm, head>
// Paths: embed, layers.N.{attn_norm, attn, ffn_norm, ffn}, norm, head. Token ids in, logits out.
// preset is open: a config type of another family specializes it.
#pragma once

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/sparse_attention.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/models/config.hpp"
#include "deepseek/pattern/band.hpp"

namespace deepseek {

// The attention of a model, by its kind.
template <model_config C, attention_kind Kind = C.attention>
struct model_attention : multi_head_attention<C.heads_config(), causal> {};
template <model_config C>
struct model_attention<C, attention_kind::latent> : latent_attention<C.latent_config(), causal> {};
template <model_config C>
struct model_attention<C, attention_kind::sparse> : deepseek_sparse_attention<C.sparse_config()> {};

template <moe_config Experts, gate_config Gate>
struct gated_experts : moe<Experts, top_k_gate<Gate>> {};

template <model_config C>
struct dense_block
    : transformer_block<model_attention<C>, swiglu<C.dim, C.hidden>, dropout_config{.rate = 0},
                        rms_norm<C.dim, norm_config{C.eps}>> {};
template <model_config C>
struct expert_block
    : transformer_block<model_attention<C>, gated_experts<C.experts_config(), C.gate>,
                        dropout_config{.rate = 0}, rms_norm<C.dim, norm_config{C.eps}>> {};

// What stands before and after the blocks of every model.
template <model_config C, class... Blocks>
using model_chain =
    chain<embedding<C.vocabulary, C.dim>, Blocks..., rms_norm<C.dim, norm_config{C.eps}>,
          called<"head", linear<C.dim, C.vocabulary>>>;

// Dense layers alone, experts alone, dense layers first.
template <model_config C>
struct model_layers : model_chain<C, repeat<C.layers, dense_block<C>>> {};
template <model_config C>
requires(C.has_experts() && C.dense_layers == 0) struct model_layers<C>
    : model_chain<C, repeat<C.layers, expert_block<C>>> {
};
template <model_config C>
requires(C.has_experts() && C.dense_layers > 0) struct model_layers<C>
    : model_chain<C, repeat<C.dense_layers, dense_block<C>>,
                  repeat<C.layers - C.dense_layers, expert_block<C>, C.dense_layers>> {
};

template <auto Config>
struct preset;
template <model_config C>
struct preset<C> {
  static_assert(check_model_config<C>());
  static constexpr model_config config = C;
  struct net : model_layers<C> {};
};

}  // namespace deepseek
