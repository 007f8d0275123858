// SPDX-License-Identifier: Apache-2.0
// multi_head_attention: gradients of MHA, GQA and MQA, with each rotary layout and several
// patterns.
#include "deepseek/layers/attention.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/reference/reference.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

inline constexpr ds::attention_config mha{.dim = 8, .heads = 2, .rope = ds::rotary::half};
inline constexpr ds::attention_config gqa{.dim = 8,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .rope = ds::rotary::interleaved,
                                          .projection_bias = ds::bias::present};
inline constexpr ds::attention_config mqa{
    .dim = 8, .heads = 2, .kv_heads = 1, .head_dim = 3, .rope = ds::rotary::none, .scale = 0.7};
using scattered = ds::both<ds::causal, ds::either<ds::local<1>, ds::random_blocks<2, 1>>>;

template <ds::attention_config C, class P>
void check(const char* text) {
  const ds::reference b;
  rows_of<double, 8> x(7);
  const std::int32_t offsets[] = {0, 3, 3, 7};
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<ds::multi_head_attention<C, P>>(b, text, x.view(), run);
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<ds::multi_head_attention<C, P>>(b, text, x.view(), run);
}

}  // namespace

TEST_CASE("attention layer: MHA, causal, half rotation") {
  check<mha, ds::causal>("attention layer");
}
TEST_CASE("attention layer: GQA with biases, a window, interleaved rotation") {
  check<gqa, ds::sliding<3>>("attention layer");
}
TEST_CASE("attention layer: MQA of its own width and scale, random blocks, no rotation") {
  check<mqa, scattered>("attention layer");
}

TEST_CASE("attention layer: kv_heads as many as heads is MHA; the pattern changes the result") {
  const ds::reference b;
  rows_of<double, 8> x(6);
  constexpr ds::attention_config all{.dim = 8, .heads = 2, .kv_heads = 2, .rope = ds::rotary::half};
  const layer_test::trial<ds::multi_head_attention<mha, ds::causal>, double> a;
  const layer_test::trial<ds::multi_head_attention<all, ds::causal>, double> same;
  const layer_test::trial<ds::multi_head_attention<mha, ds::everyone>, double> open;
  CHECK(support::same_bits(a.forward(b, x.view()), same.forward(b, x.view())));
  CHECK(!support::same_bits(a.forward(b, x.view()), open.forward(b, x.view())));
}

TEST_CASE("attention layer: a sink in every head") {
  constexpr ds::attention_config with_sinks{
      .dim = 8, .heads = 4, .kv_heads = 2, .sink = ds::sinks::present};
  check<with_sinks, ds::causal>("attention layer");
  const ds::reference b;
  rows_of<double, 8> x(6);
  using layer = ds::multi_head_attention<with_sinks, ds::causal>;
  layer_test::trial<layer, double> t;
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names.find(" attn_sink ") != std::string::npos);
  // No sink at all is a logit of -infinity.
  constexpr ds::attention_config without{.dim = 8, .heads = 4, .kv_heads = 2};
  layer_test::trial<ds::multi_head_attention<without, ds::causal>, double> plain;
  const auto y = t.forward(b, x.view());
  CHECK(!support::same_bits(y, plain.forward(b, x.view())));
  for (ds::index_t h = 0; h < 4; ++h) {
    t.p.attn_sink.logits.view()(h) = -std::numeric_limits<double>::infinity();
  }
  CHECK(support::same_bits(t.forward(b, x.view()), plain.forward(b, x.view())));
}
