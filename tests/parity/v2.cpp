// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2's form against the published implementation: compressed queries, a gate limited to
// groups of experts (the best score ranks a group), weights times 16 and not renormalised. Groups
// that are left out are masked with minus infinity here and with 0 there: scores of a softmax are
// positive, so the choice is the same.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace {

inline constexpr deepseek::model_config model = parity::small_latent(deepseek::v2, 3);

}  // namespace

TEST_CASE("V2: the published logits") {
  parity::check_preset_float<model>("deepseek_v2");
  parity::check_preset_bf16<model>("deepseek_v2_bf16");
}
