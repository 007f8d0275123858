// SPDX-License-Identifier: Apache-2.0
// model_config: what a language model is, in one value: a diff of two values is a diff of two
// models. Embedding, `layers` blocks of attention and feed-forward, norm, head (preset.hpp).
// attention says which of heads, latent, indexer counts: multi-head or grouped heads; latent
// attention; latent attention to the keys that an indexer selects. experts.routed > 0: experts from
// layer dense_layers on. dim and eps of the parts are the model's and are not written there.
// Derive your own: auto c = v2_lite; c.layers = 4; see docs/models.md.
#pragma once

#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/sparse_config.hpp"

namespace deepseek {

enum class attention_kind { heads, latent, sparse };

struct model_config {
  index_t vocabulary = 0;  // token ids, > 0
  index_t dim = 0;         // model width, > 0
  index_t layers = 0;      // blocks, > 0
  index_t hidden = 0;      // width of a dense feed-forward
  double eps = 1e-6;       // of every RMSNorm, > 0
  index_t context = 0;     // positions that the model was made for; information
  index_t bos = 0, eos = 0;
  attention_kind attention = attention_kind::heads;
  attention_config heads = {};  // attention_kind::heads
  mla_config latent = {};       // attention_kind::latent and sparse
  dsa_config indexer = {};      // attention_kind::sparse; its .attention is latent
  index_t dense_layers = 0;     // the first blocks, without experts; counts with experts only
  moe_config experts = {};
  gate_config gate = {};
  bool operator==(const model_config&) const = default;

  constexpr bool has_experts() const { return experts.routed > 0; }
  // The parts' configs with the model's width and eps in them.
  constexpr attention_config heads_config() const {
    auto c = heads;
    c.dim = dim;
    return c;
  }
  constexpr mla_config latent_config() const {
    auto c = latent;
    c.dim = dim;
    c.eps = eps;
    return c;
  }
  constexpr dsa_config sparse_config() const {
    auto c = indexer;
    c.attention = latent_config();
    return c;
  }
  constexpr moe_config experts_config() const {
    auto c = experts;
    c.dim = dim;
    return c;
  }
};

// One sentence for each thing that can be wrong and that no part says by itself.
template <model_config C>
consteval bool check_model_config() {
  static_assert(C.vocabulary > 0,
                "deepseek::preset: vocabulary is not positive; write .vocabulary = 102400");
  static_assert(C.dim > 0, "deepseek::preset: dim is not positive; write .dim = 2048");
  static_assert(C.layers > 0, "deepseek::preset: layers is not positive; write .layers = 27");
  static_assert(!C.has_experts() || (C.dense_layers >= 0 && C.dense_layers < C.layers),
                "deepseek::preset: dense_layers is not between 0 and layers - 1 (a model with "
                "experts has a layer of them); write a smaller .dense_layers, or .experts = {}");
  static_assert(C.hidden > 0 || (C.has_experts() && C.dense_layers == 0),
                "deepseek::preset: hidden is not positive (dense layers need it); write .hidden");
  return true;
}

}  // namespace deepseek
