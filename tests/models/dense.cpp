// SPDX-License-Identifier: Apache-2.0
// A small dense model derived from a Qwen distillation: biases on q, k and v only, decoding equals
// prefill; experts in every layer when dense_layers is 0.
#include "deepseek/deepseek.hpp"
#include "deepseek/models/preset.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace ds = deepseek;

namespace {

inline constexpr auto tiny = [] {
  auto c = ds::r1_distill_qwen_7b;
  c.vocabulary = 11;
  c.dim = 12;
  c.layers = 2;
  c.hidden = 16;
  c.heads.heads = 3;
  c.heads.kv_heads = 1;
  return c;
}();
using net = ds::preset<tiny>::net;

}  // namespace

TEST_CASE("dense: paths with biases; decoding equals prefill") {
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 3});
  std::set<std::string> biases;
  ds::visit(
      [&](const ds::tensor_name& at, auto&) {
        if (at.path.ends_with(".bias")) biases.insert(at.path);
      },
      m.parameters());
  CHECK(biases == std::set<std::string>{"layers.0.attn.wq.bias", "layers.0.attn.wk.bias",
                                        "layers.0.attn.wv.bias", "layers.1.attn.wq.bias",
                                        "layers.1.attn.wk.bias", "layers.1.attn.wv.bias"});
  CHECK(ds::parameter_count<net>() == ds::parameter_count(m.parameters()));
  const std::int32_t tokens[] = {3, 10, 0, 7, 3};
  const ds::view<const std::int32_t, ds::host, ds::dyn> x(tokens, {5});
  const auto whole = m(b, x);
  auto d = m.decoder(b, 5);
  for (ds::index_t n = 0; n < 5; ++n) {
    const auto row = m.decode(b, ds::rows(x, n, 1), d);
    for (ds::index_t v = 0; v < 11; ++v) CHECK(row(0, v) == whole.view()(n, v));
  }
}

TEST_CASE("dense: where the experts are") {
  constexpr auto everywhere = [] {
    auto c = ds::moe_16b;
    c.layers = 3;
    c.dense_layers = 0;
    c.hidden = 0;
    return c;
  }();
  CHECK(ds::parameter_count<ds::preset<everywhere>::net>() ==
        2 * 102400LL * 2048 + 2048 + 3 * ds::parameter_count<ds::expert_block<ds::moe_16b>>());
  constexpr auto nowhere = [] {
    auto c = ds::moe_16b;
    c.experts = {};
    return c;
  }();
  CHECK(ds::parameter_count<ds::preset<nowhere>::net>() ==
        2 * 102400LL * 2048 + 2048 + 28 * ds::parameter_count<ds::dense_block<ds::moe_16b>>());
}
