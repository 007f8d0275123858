// SPDX-License-Identifier: Apache-2.0
// Our names and those of Hugging Face files, both ways, for every form that a published model has.
#include "deepseek/io/checkpoint_names.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

constexpr ds::detail::name_pair both[] = {
    {"embed.weight", "model.embed_tokens.weight"},
    {"norm.weight", "model.norm.weight"},
    {"head.weight", "lm_head.weight"},
    {"layers.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
    {"layers.60.ffn_norm.weight", "model.layers.60.post_attention_layernorm.weight"},
    {"layers.1.attn.wq.bias", "model.layers.1.self_attn.q_proj.bias"},
    {"layers.1.attn.wk.weight", "model.layers.1.self_attn.k_proj.weight"},
    {"layers.1.attn.wv.weight", "model.layers.1.self_attn.v_proj.weight"},
    {"layers.1.attn.wo.weight", "model.layers.1.self_attn.o_proj.weight"},
    {"layers.2.attn.wq_a.weight", "model.layers.2.self_attn.q_a_proj.weight"},
    {"layers.2.attn.q_norm.weight", "model.layers.2.self_attn.q_a_layernorm.weight"},
    {"layers.2.attn.wq_b.weight", "model.layers.2.self_attn.q_b_proj.weight"},
    {"layers.2.attn.wkv_a.weight", "model.layers.2.self_attn.kv_a_proj_with_mqa.weight"},
    {"layers.2.attn.kv_norm.weight", "model.layers.2.self_attn.kv_a_layernorm.weight"},
    {"layers.2.attn.wkv_b.weight", "model.layers.2.self_attn.kv_b_proj.weight"},
    {"layers.2.attn.wkv_b.weight_scale_inv", "model.layers.2.self_attn.kv_b_proj.weight_scale_inv"},
    {"layers.2.attn.indexer.wq_b.weight", "model.layers.2.self_attn.indexer.wq_b.weight"},
    {"layers.2.attn.indexer.k_norm.bias", "model.layers.2.self_attn.indexer.k_norm.bias"},
    {"layers.3.ffn.w1.weight", "model.layers.3.mlp.gate_proj.weight"},
    {"layers.3.ffn.w2.weight", "model.layers.3.mlp.down_proj.weight"},
    {"layers.3.ffn.w3.weight", "model.layers.3.mlp.up_proj.weight"},
    {"layers.3.ffn.gate.weight", "model.layers.3.mlp.gate.weight"},
    {"layers.3.ffn.gate.bias", "model.layers.3.mlp.gate.e_score_correction_bias"},
    {"layers.3.ffn.experts.255.w1.weight", "model.layers.3.mlp.experts.255.gate_proj.weight"},
    {"layers.3.ffn.experts.0.w2.weight_scale_inv",
     "model.layers.3.mlp.experts.0.down_proj.weight_scale_inv"},
    {"layers.3.ffn.shared_experts.w3.weight", "model.layers.3.mlp.shared_experts.up_proj.weight"},
    {"layers.61.eh_proj.weight", "model.layers.61.eh_proj.weight"},
    {"layers.61.norm.weight", "model.layers.61.shared_head.norm.weight"}};

}  // namespace

TEST_CASE("every name in both forms") {
  for (const auto& [ours, theirs] : both) {
    CHECK(ds::hugging_face_name(ours) == theirs);
    CHECK(ds::our_name(theirs) == ours);
  }
}

TEST_CASE("a name that is in the wanted form already, or in neither, stays") {
  for (const auto& [ours, theirs] : both) {
    CHECK(ds::our_name(ours) == ours);
    CHECK(ds::hugging_face_name(theirs) == theirs);
  }
  for (const char* name :
       {"", "layers", "layers.", "model.layers.", "model.layers.x.mlp.gate_proj.weight",
        "model.layers.1", "model.layers.1.", "model.layers.61.e_proj.weight",
        "model.layers.1.mlp.experts.gate_proj.weight", "model.layers.1.mlp.experts.3.w1.weight",
        "lm_head", "x.lm_head.weight", "model.layers.1.self_attn.rotary_emb.inv_freq"}) {
    CAPTURE(name);
    CHECK(ds::our_name(name) == name);
  }
}

TEST_CASE("layers behind the last are those of multi-token prediction") {
  CHECK(ds::mtp_path("layers.61.eh_proj.weight", 61, 1) == "mtp.0.eh_proj.weight");
  CHECK(ds::mtp_path("layers.62.attn.wo.weight", 61, 2) == "mtp.1.attn.wo.weight");
  for (const char* path :
       {"layers.60.attn.wo.weight", "layers.62.attn.wo.weight", "layers.61", "layers..x",
        "layers.-1.x", "layers.99999999999999999999.x", "embed.x"}) {
    CHECK(ds::mtp_path(path, 61, 1) == path);
  }
}

TEST_CASE("an expert's part of a stack") {
  CHECK(ds::expert_path("layers.0.ffn.experts.w1.weight", 3) == "layers.0.ffn.experts.3.w1.weight");
  CHECK(ds::expert_path("experts.w1.weight.q", 12) == "experts.12.w1.weight.q");
  CHECK(ds::expert_path("layers.0.many.weight", 1) == "layers.0.many.weight.1");
}
