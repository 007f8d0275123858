// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V3.2's form against the published implementation: an indexer that selects 6 of up to 16
// keys. The published class leaves out the indexer's Hadamard rotation and 8-bit scores, which do
// not change exact scores; here the rotation is done, in the float type of the model.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::model_config model = [] {
  auto c = parity::small_latent(ds::v3_2, 2);
  c.indexer.index_heads = 2;
  c.indexer.index_dim = 8;
  c.indexer.top_k = 6;
  return c;
}();

}  // namespace

TEST_CASE("V3.2: the published logits") {
  parity::check_preset_float<model>("deepseek_v32");
}
