// SPDX-License-Identifier: Apache-2.0
// The released models as model_config values; preset<value>::net is the layer type. Sizes and
// constants: the models' published config.json and papers (DeepSeek LLM, DeepSeek-Coder,
// DeepSeekMoE 2024; DeepSeek-V2, DeepSeek-V3 2024; DeepSeek-R1, DeepSeek-V3.2-Exp 2025); balance
// weights: the papers' training sections. Multi-token prediction layers are not part of these nets.
#pragma once

#include "deepseek/models/preset.hpp"

namespace deepseek {

// ---- DeepSeek LLM and Coder: Llama's form.
inline constexpr model_config llm_7b{.vocabulary = 102400,
                                     .dim = 4096,
                                     .layers = 30,
                                     .hidden = 11008,
                                     .context = 4096,
                                     .bos = 100000,
                                     .eos = 100001,
                                     .heads = {.heads = 32}};
inline constexpr model_config llm_67b{.vocabulary = 102400,
                                      .dim = 8192,
                                      .layers = 95,
                                      .hidden = 22016,
                                      .context = 4096,
                                      .bos = 100000,
                                      .eos = 100001,
                                      .heads = {.heads = 64, .kv_heads = 8}};

// Rotary base 1e5, positions divided by 4.
constexpr attention_config coder_heads(index_t heads, index_t kv_heads) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .theta = 1e5,
          .scaling = {.kind = rope_scaling_kind::linear, .factor = 4}};
}
inline constexpr model_config coder_1_3b{.vocabulary = 32256,
                                         .dim = 2048,
                                         .layers = 24,
                                         .hidden = 5504,
                                         .context = 16384,
                                         .bos = 32013,
                                         .eos = 32014,
                                         .heads = coder_heads(16, 16)};
inline constexpr model_config coder_6_7b{.vocabulary = 32256,
                                         .dim = 4096,
                                         .layers = 32,
                                         .hidden = 11008,
                                         .context = 16384,
                                         .bos = 32013,
                                         .eos = 32014,
                                         .heads = coder_heads(32, 32)};
inline constexpr model_config coder_33b{.vocabulary = 32256,
                                        .dim = 7168,
                                        .layers = 62,
                                        .hidden = 19200,
                                        .context = 16384,
                                        .bos = 32013,
                                        .eos = 32014,
                                        .heads = coder_heads(56, 8)};

// ---- DeepSeekMoE-16B: experts, multi-head attention.
inline constexpr model_config moe_16b{
    .vocabulary = 102400,
    .dim = 2048,
    .layers = 28,
    .hidden = 10944,
    .context = 4096,
    .bos = 100000,
    .eos = 100001,
    .heads = {.heads = 16},
    .dense_layers = 1,
    .experts = {.hidden = 1408, .routed = 64, .shared = 2, .active = 6, .balance = 1e-3},
    .gate = greedy_gate};

// ---- V2: latent attention. YaRN by 40 from 4096 positions; mscale sets the softmax scale.
constexpr rope_scaling yarn_40(double mscale) {
  return {.kind = rope_scaling_kind::yarn,
          .factor = 40,
          .original_length = 4096,
          .mscale = mscale,
          .mscale_all_dim = mscale};
}
inline constexpr model_config v2_lite{.vocabulary = 102400,
                                      .dim = 2048,
                                      .layers = 27,
                                      .hidden = 10944,
                                      .context = 163840,
                                      .bos = 100000,
                                      .eos = 100001,
                                      .attention = attention_kind::latent,
                                      .latent = {.heads = 16,
                                                 .kv_rank = 512,
                                                 .nope_dim = 128,
                                                 .rope_dim = 64,
                                                 .v_dim = 128,
                                                 .scaling = yarn_40(0.707)},
                                      .dense_layers = 1,
                                      .experts = {.hidden = 1408,
                                                  .routed = 64,
                                                  .shared = 2,
                                                  .active = 6,
                                                  .balance = 1e-3,
                                                  .form = balance_form::sequence},
                                      .gate = greedy_gate};
inline constexpr model_config v2{
    .vocabulary = 102400,
    .dim = 5120,
    .layers = 60,
    .hidden = 12288,
    .context = 163840,
    .bos = 100000,
    .eos = 100001,
    .attention = attention_kind::latent,
    .latent = {.heads = 128,
               .q_rank = 1536,
               .kv_rank = 512,
               .nope_dim = 128,
               .rope_dim = 64,
               .v_dim = 128,
               .scaling = yarn_40(0.707)},
    .dense_layers = 1,
    .experts = {.hidden = 1536,
                .routed = 160,
                .shared = 2,
                .active = 6,
                .balance = 3e-3,
                .form = balance_form::sequence,
                .devices = {.count = 8, .top = 3, .alpha = 0.05, .communication = 0.02}},
    .gate = group_limited_gate};

// ---- V3: sigmoid gate with selection bias. R1 and V3.1 are the same net.
inline constexpr model_config v3{.vocabulary = 129280,
                                 .dim = 7168,
                                 .layers = 61,
                                 .hidden = 18432,
                                 .context = 163840,
                                 .bos = 0,
                                 .eos = 1,
                                 .attention = attention_kind::latent,
                                 .latent = {.heads = 128,
                                            .q_rank = 1536,
                                            .kv_rank = 512,
                                            .nope_dim = 128,
                                            .rope_dim = 64,
                                            .v_dim = 128,
                                            .scaling = yarn_40(1)},
                                 .dense_layers = 3,
                                 .experts = {.hidden = 2048,
                                             .routed = 256,
                                             .shared = 1,
                                             .active = 8,
                                             .balance = 1e-4,
                                             .form = balance_form::affinity},
                                 .gate = bias_balanced_gate};
inline constexpr model_config r1 = v3, v3_1 = v3;

// V3.2: V3 with an indexer that selects 2048 keys for each query.
constexpr model_config with_indexer(model_config c, dsa_config indexer) {
  c.attention = attention_kind::sparse;
  c.indexer = indexer;
  return c;
}
inline constexpr model_config v3_2 =
    with_indexer(v3, {.index_heads = 64, .index_dim = 128, .top_k = 2048});

// ---- R1's distillations into Qwen 2.5 (biases on q, k, v) and Llama 3.
constexpr attention_config qwen_heads(index_t heads, index_t kv_heads, double theta) {
  return {.heads = heads, .kv_heads = kv_heads, .theta = theta, .projection_bias = bias::present};
}
inline constexpr model_config r1_distill_qwen_1_5b{.vocabulary = 151936,
                                                   .dim = 1536,
                                                   .layers = 28,
                                                   .hidden = 8960,
                                                   .context = 131072,
                                                   .bos = 151646,
                                                   .eos = 151643,
                                                   .heads = qwen_heads(12, 2, 1e4)};
inline constexpr model_config r1_distill_qwen_7b{.vocabulary = 152064,
                                                 .dim = 3584,
                                                 .layers = 28,
                                                 .hidden = 18944,
                                                 .context = 131072,
                                                 .bos = 151646,
                                                 .eos = 151643,
                                                 .heads = qwen_heads(28, 4, 1e4)};
inline constexpr model_config r1_distill_qwen_14b{.vocabulary = 152064,
                                                  .dim = 5120,
                                                  .layers = 48,
                                                  .hidden = 13824,
                                                  .eps = 1e-5,
                                                  .context = 131072,
                                                  .bos = 151646,
                                                  .eos = 151643,
                                                  .heads = qwen_heads(40, 8, 1e6)};
inline constexpr model_config r1_distill_qwen_32b{.vocabulary = 152064,
                                                  .dim = 5120,
                                                  .layers = 64,
                                                  .hidden = 27648,
                                                  .eps = 1e-5,
                                                  .context = 131072,
                                                  .bos = 151646,
                                                  .eos = 151643,
                                                  .heads = qwen_heads(40, 8, 1e6)};

constexpr attention_config llama3_heads(index_t heads, index_t kv_heads) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .theta = 5e5,
          .scaling = {.kind = rope_scaling_kind::llama3,
                      .factor = 8,
                      .original_length = 8192,
                      .low = 1,
                      .high = 4}};
}
inline constexpr model_config r1_distill_llama_8b{.vocabulary = 128256,
                                                  .dim = 4096,
                                                  .layers = 32,
                                                  .hidden = 14336,
                                                  .eps = 1e-5,
                                                  .context = 131072,
                                                  .bos = 128000,
                                                  .eos = 128001,
                                                  .heads = llama3_heads(32, 8)};
inline constexpr model_config r1_distill_llama_70b{.vocabulary = 128256,
                                                   .dim = 8192,
                                                   .layers = 80,
                                                   .hidden = 28672,
                                                   .eps = 1e-5,
                                                   .context = 131072,
                                                   .bos = 128000,
                                                   .eos = 128001,
                                                   .heads = llama3_heads(64, 8)};

}  // namespace deepseek
