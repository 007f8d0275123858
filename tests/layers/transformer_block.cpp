// SPDX-License-Identifier: Apache-2.0
// transformer_block with layer_norm and mlp: gradient, names, threads.
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/mlp.hpp"

#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {
inline constexpr ds::attention_config heads{.dim = 6, .heads = 3, .rope = ds::rotary::none};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::mlp<6, 7, ds::activation::gelu>,
                                    ds::dropout_config{.rate = 0}, ds::layer_norm<6>>;
}  // namespace

TEST_CASE("transformer_block: gradient and names") {
  const ds::cpu b;
  rows_of<double, 6> x(4);
  layer_test::expect_layer_gradient<block>(b, "transformer_block", x.view());
  const layer_test::trial<block, float> t;
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names ==
        "attn_norm.weight attn_norm.bias attn.wq.weight attn.wk.weight attn.wv.weight "
        "attn.wo.weight ffn_norm.weight ffn_norm.bias ffn.w1.weight ffn.w1.bias ffn.w2.weight "
        "ffn.w2.bias ");
}

TEST_CASE("transformer_block: no bit depends on threads") {
  rows_of<float, 6> x(150);
  layer_test::trial<block, float> first;
  const auto dx = first.backward(ds::cpu{}, x.view());
  for (int threads : {2, 3}) {
    layer_test::trial<block, float> t;
    CHECK(support::same_bits(t.backward(ds::cpu{{.threads = threads}}, x.view()), dx));
    CHECK(support::same_bits(layer_test::flat(t.g), layer_test::flat(first.g)));
  }
}
