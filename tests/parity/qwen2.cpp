// SPDX-License-Identifier: Apache-2.0
// Qwen2 against the published implementation: biases of q, k and v; a head of its own, and one that
// is the embedding: copied into the preset's head, or shared by a net that ties them in its type.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::model_config model = [] {
  auto c = parity::small(ds::r1_distill_qwen_1_5b, 2);
  c.heads.heads = 4;
  c.heads.kv_heads = 2;
  return c;
}();
struct tied_net
    : ds::tied<ds::embedding<48, 32>, ds::chain<ds::repeat<2, ds::dense_block<model>>,
                                                ds::rms_norm<32>, ds::tied_head<48, 32>>> {};

}  // namespace

TEST_CASE("biases: the published logits") {
  parity::check_preset_float<model>("qwen2");
  parity::check_preset_bf16<model>("qwen2_bf16");
}

TEST_CASE("tied embeddings: the published logits, the head copied or shared") {
  parity::check_preset_float<model>("qwen2_tied");
  parity::check_float("qwen2_tied", parity::from_net<tied_net, float>{});
}
