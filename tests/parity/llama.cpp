// SPDX-License-Identifier: Apache-2.0
// Llama against the published implementation: grouped queries, llama3 scaling of the rotary
// frequencies, and that another scaling would be noticed.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::model_config model = [] {
  auto c = parity::small(ds::r1_distill_llama_8b, 2);
  c.heads.heads = 4;
  c.heads.kv_heads = 2;
  c.heads.theta = 100;
  c.heads.scaling.original_length = 16;
  return c;
}();
inline constexpr ds::model_config unscaled = [] {
  auto c = model;
  c.heads.scaling = {};
  return c;
}();

}  // namespace

TEST_CASE("llama3 scaling: the published logits") {
  parity::check_preset_float<model>("llama_llama3");
  parity::check_preset_bf16<model>("llama_llama3_bf16");
}

TEST_CASE("another scaling is refused by config.json, and gives other logits") {
  ds::cpu b;
  const ds::checkpoint_directory from(parity::golden / "llama_llama3");
  CHECK_ERROR(ds::error_code::config, "rope_type", "llama3", "default", "factor is 8 and not 1",
              (ds::load_preset<unscaled, float>(b, from)));
  const auto m = ds::load_model<ds::preset<unscaled>::net, float>(b, from);
  CHECK(parity::prefill_errors(b, m, "llama_llama3").row > 1e-2);
}
