// SPDX-License-Identifier: Apache-2.0
// Llama in shards with an index, and linear scaling, against the published implementation.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::model_config model = [] {
  auto c = parity::small(ds::coder_1_3b, 2);
  c.heads.heads = 4;
  c.heads.kv_heads = 2;
  return c;
}();

}  // namespace

TEST_CASE("linear scaling, in shards: the published logits") {
  CHECK(ds::open_checkpoint(parity::golden / "llama_linear").size() == 10);
  parity::check_preset_float<model>("llama_linear");
}
