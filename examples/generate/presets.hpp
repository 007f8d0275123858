// SPDX-License-Identifier: Apache-2.0
// The models that generate can be built with: every preset of the library, and one small enough for
// tests, derived from V3 as anybody would derive a model.
#pragma once

#include <deepseek/models/deepseek.hpp>

namespace generate::presets {

using namespace deepseek;

constexpr model_config small_v3() {
  model_config c = v3;
  c.vocabulary = 48;
  c.dim = 32;
  c.layers = 3;
  c.dense_layers = 1;
  c.hidden = 40;
  c.latent.heads = 4;
  c.latent.q_rank = 20;
  c.latent.kv_rank = 16;
  c.latent.nope_dim = 8;
  c.latent.rope_dim = 4;
  c.latent.v_dim = 6;
  c.latent.theta = 100;
  c.latent.scaling.factor = 4;
  c.latent.scaling.original_length = 16;
  c.experts.hidden = 12;
  c.experts.routed = 8;
  c.experts.shared = 2;
  c.experts.active = 3;
  c.gate.groups = 4;
  c.gate.top_groups = 2;
  return c;
}
inline constexpr model_config tiny_v3 = small_v3();

}  // namespace generate::presets
