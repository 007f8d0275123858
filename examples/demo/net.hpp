// SPDX-License-Identifier: Apache-2.0
// The demo's language model as a type, whatever runs it: bytes in, bytes out, DeepSeek-V3 in small:
// latent attention, experts that a bias keeps balanced and one that every byte meets, and one layer
// that predicts the byte after the next. And how it is trained.
#pragma once

#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/latent_attention.hpp>
#include <deepseek/layers/moe.hpp>
#include <deepseek/layers/repeat.hpp>
#include <deepseek/layers/transformer_block.hpp>
#include <deepseek/layers/with_mtp.hpp>
#include <deepseek/pattern/band.hpp>
#include <deepseek/train/trainer.hpp>

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

// The bias moves ten times as fast as in V3: a run of minutes has hundreds of steps, not millions.
inline constexpr ds::gate_config routing{.score = ds::gate_score::sigmoid,
                                         .bias = ds::selection_bias::present,
                                         .norm = ds::renormalize::yes,
                                         .bias_step = 1e-2};

using layer = ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                    ds::moe<experts, ds::top_k_gate<routing>>>;

struct net : ds::with_mtp<ds::embedding<256, 192>,    // a byte becomes a vector
                          ds::repeat<layers, layer>,  // attention, then experts, four times
                          ds::mtp_layer<layer>,       // once more, for the byte after the next
                          ds::called<"head", ds::linear<192, 256>>> {};  // scores of a byte

using token_ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

struct training_settings {
  ds::index_t steps = 340;
  std::uint64_t seed = 1;
  int windows = 8;     // per optimizer step
  double peak = 3e-3;  // learning rate
};

inline ds::adamw optimizer_rule() {
  return {.beta2 = 0.98, .weight_decay = 0.1};
}
inline ds::warmup_cosine learning_rate(const training_settings& s) {
  return {.peak = s.peak,
          .floor = s.peak / 20,
          .warmup = s.steps / 20 + 1,
          .total = s.steps + s.steps / 20 + 1};
}
inline ds::trainer_config trainer_settings(const training_settings& s) {
  return {.clip = 1, .seed = s.seed};
}

}  // namespace demo
