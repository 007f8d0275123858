// SPDX-License-Identifier: Apache-2.0
// Qwen2 against the published implementation: biases of q, k and v; a head of its own, and one that
// is the embedding.
#include "parity.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{
    .dim = 32, .heads = 4, .kv_heads = 2, .projection_bias = ds::bias::present};
using block =
    ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<32, 40>>;
struct net : ds::chain<ds::embedding<48, 32>, ds::repeat<2, block>, ds::rms_norm<32>,
                       ds::called<"head", ds::linear<32, 48>>> {};
// The head is the embedding in the type, too: no copy in memory.
struct tied_net
    : ds::tied<ds::embedding<48, 32>,
               ds::chain<ds::repeat<2, block>, ds::rms_norm<32>, ds::tied_head<48, 32>>> {};

}  // namespace

TEST_CASE("biases: the published logits") {
  parity::check_float<net>("qwen2");
  parity::check_bf16<net>("qwen2_bf16", 2);
}

TEST_CASE("tied embeddings: the published logits, the head copied or shared") {
  parity::check_float<net>("qwen2_tied");
  parity::check_float<tied_net>("qwen2_tied");
  parity::check_bf16<tied_net>("qwen2_tied_bf16", 2);
}
