// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V3's form against the published implementation: sigmoid scores, a bias (also negative)
// that chooses and does not weigh, groups ranked by the sum of their two best, weights normalised
// and times 2.5, YaRN with mscale 1. The layer of multi-token prediction in the files is skipped.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace {

inline constexpr deepseek::model_config model = parity::small_latent(deepseek::v3, 3);

}  // namespace

TEST_CASE("V3: the published logits") {
  parity::check_preset_float<model>("deepseek_v3");
  parity::check_preset_bf16<model>("deepseek_v3_bf16");
}

TEST_CASE("V3 in blocks of 8-bit floats: the logits of the weights that the files hold") {
  parity::check_preset_float<model>("deepseek_v3_fp8");
}
