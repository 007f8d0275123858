// SPDX-License-Identifier: Apache-2.0
// v4_config: DeepSeek-V4 in one value; preset<value>::net is the layer type:
//   chain<embedding, hyper_streams, layers 0 .. N - 1, hyper_head, rms_norm, head>
// each layer a hyper_block of compressed_attention and moe. The first `lead` layers have the ratio
// lead_ratio, after them selective_ratio (overlapping windows, an indexer) and heavy_ratio take
// turns. The experts of the first hash_layers are given by the token's id. v4_flash, v4_pro: sizes
// from secondary sources (docs/v4.md); their counts agree with what is published. The
// layer of multi-token prediction is not part of these nets.
#pragma once

#include "deepseek/layers/compressed_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/hash_gate.hpp"
#include "deepseek/layers/hyper_connection.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/models/preset.hpp"

namespace deepseek {

struct v4_config {
  index_t vocabulary = 0;
  index_t dim = 0;
  index_t layers = 0;
  double eps = 1e-6;
  index_t context = 0;  // positions that the model was made for; information
  index_t bos = 0, eos = 0;
  // What all layers share; theta is that of layers without entries, selected, index_heads and
  // index_dim are those of the layers with an indexer.
  compressed_attention_config attention = {};
  double entry_theta = 160000;       // of layers with entries
  rope_scaling entry_scaling = {};   // of layers with entries
  index_t lead = 2, lead_ratio = 0;  // the first layers
  index_t selective_ratio = 4, heavy_ratio = 128;
  index_t hash_layers = 3;
  moe_config experts = {};
  gate_config gate = {};
  double limit = 10;  // of the experts' swiglu; 0: none
  hyper_config streams = {};
  bool operator==(const v4_config&) const = default;

  constexpr index_t ratio_of(index_t layer) const {
    if (layer < lead) return lead_ratio;
    return (layer - lead) % 2 == 0 ? selective_ratio : heavy_ratio;
  }
  constexpr compressed_attention_config attention_of(index_t layer) const {
    auto c = attention;
    c.dim = dim;
    c.eps = eps;
    c.ratio = ratio_of(layer);
    const bool selective = layer >= lead && (layer - lead) % 2 == 0;
    if (c.ratio > 0) {
      c.theta = entry_theta;
      c.scaling = entry_scaling;
    }
    if (selective) {
      c.windows = overlap::present;
    } else {
      c.selected = c.index_heads = c.index_dim = 0;
    }
    return c;
  }
  constexpr moe_config experts_config() const {
    auto c = experts;
    c.dim = dim;
    return c;
  }
};

template <v4_config C, class Gate>
struct v4_experts
    : moe<C.experts_config(), Gate, swiglu<C.dim, C.experts.hidden, plain, swiglu_config{C.limit}>,
          swiglu<C.dim, C.experts.shared * C.experts.hidden, plain, swiglu_config{C.limit}>> {};

// Equal layers are one type: attention and gate say all that differs between them.
template <v4_config C, compressed_attention_config Attention, class Gate>
struct v4_block : hyper_block<compressed_attention<Attention>, v4_experts<C, Gate>, C.streams,
                              rms_norm<C.dim, norm_config{C.eps}>> {};
template <v4_config C, index_t Layer>
using v4_layer =
    repeat<1,
           v4_block<C, C.attention_of(Layer),
                    std::conditional_t<(Layer < C.hash_layers), hash_gate<C.vocabulary, C.gate>,
                                       top_k_gate<C.gate>>>,
           Layer>;

template <v4_config C, class Layers>
struct v4_chain;
template <v4_config C, index_t... Layer>
struct v4_chain<C, std::integer_sequence<index_t, Layer...>>
    : chain<embedding<C.vocabulary, C.dim>, hyper_streams<C.dim, C.streams>, v4_layer<C, Layer>...,
            hyper_head<C.dim, C.streams>, rms_norm<C.dim, norm_config{C.eps}>,
            called<"head", linear<C.dim, C.vocabulary>>> {};

template <v4_config C>
struct preset<C> {
  static_assert(C.vocabulary > 0 && C.dim > 0 && C.layers > 0,
                "deepseek::preset: vocabulary, dim or layers is not positive; write all three");
  static_assert(C.experts.shared > 0 && C.hash_layers >= 0 && C.lead >= 0,
                "deepseek::preset: no shared expert, or a negative number of layers; write "
                ".experts = {.., .shared = 1} and .hash_layers, .lead >= 0");
  static constexpr v4_config config = C;
  struct net : v4_chain<C, std::make_integer_sequence<index_t, C.layers>> {};
};

inline constexpr rope_scaling v4_yarn{
    .kind = rope_scaling_kind::yarn, .factor = 16, .original_length = 65536};
inline constexpr v4_config v4_flash{
    .vocabulary = 129280,
    .dim = 4096,
    .layers = 43,
    .context = 1048576,
    .bos = 0,
    .eos = 1,
    .attention = {.heads = 64,
                  .head_dim = 512,
                  .rope_dim = 64,
                  .q_rank = 1024,
                  .groups = 8,
                  .group_rank = 1024,
                  .window = 128,
                  .selected = 512,
                  .index_heads = 64,
                  .index_dim = 128},
    .entry_scaling = v4_yarn,
    .experts = {.hidden = 2048, .routed = 256, .shared = 1, .active = 6},
    .gate = sqrt_softplus_gate};

// Sizes of v4_pro where they are others.
constexpr v4_config with_pro_sizes(v4_config c) {
  c.dim = 7168;
  c.layers = 61;
  c.lead_ratio = 128;
  c.attention.heads = 128;
  c.attention.q_rank = 1536;
  c.attention.groups = 16;
  c.attention.selected = 1024;
  c.experts.hidden = 3072;
  c.experts.routed = 384;
  c.gate.scale = 2.5;
  return c;
}
inline constexpr v4_config v4_pro = with_pro_sizes(v4_flash);

}  // namespace deepseek
