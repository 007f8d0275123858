// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2-Lite's form against the published implementation: latent attention without query
// compression, YaRN with its softmax factor, softmax gate that is not renormalised, shared experts.
// The published class of transformers 5.24.0 multiplies the softmax scale by g(mscale_all_dim)^2,
// as DeepSeek's own code does; versions before July 2026 left that out.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace {

inline constexpr deepseek::model_config model = parity::small_latent(deepseek::v2_lite, 3);

}  // namespace

TEST_CASE("V2-Lite: the published logits") {
  parity::check_preset_float<model>("deepseek_v2_lite");
  parity::check_preset_bf16<model>("deepseek_v2_lite_bf16");
}
