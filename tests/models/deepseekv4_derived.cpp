// SPDX-License-Identifier: Apache-2.0
// A small V4 derived from V4-Flash with every kind of layer: its gradient, names of its tensors,
// decoding in pieces against one run.
#include "deepseek/models/deepseekv4.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

#include <cstring>

namespace ds = deepseek;

namespace {

constexpr ds::v4_config small() {
  auto c = ds::v4_flash;
  c.vocabulary = 13, c.dim = 8, c.layers = 5, c.lead = 1, c.hash_layers = 2;
  c.attention = {.heads = 2,
                 .head_dim = 8,
                 .rope_dim = 4,
                 .q_rank = 6,
                 .groups = 2,
                 .group_rank = 4,
                 .window = 3,
                 .selected = 20,
                 .index_heads = 2,
                 .index_dim = 4};
  c.entry_scaling.original_length = 64;
  c.selective_ratio = 2, c.heavy_ratio = 5;
  // All experts are active, so no choice can flip within a difference.
  c.experts = {.hidden = 4, .routed = 3, .shared = 1, .active = 3};
  return c;
}
using net = ds::preset<small()>::net;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 12, 4, 4, 11};

void fill_tables(auto& p) {
  ds::visit(
      [](const ds::tensor_name&, auto& t) {
        if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(t)>::value_type,
                                     std::int32_t>) {
          ds::draw_experts(t, 3, 5);
        }
      },
      p);
}

}  // namespace

TEST_CASE("v4 in small: the gradient of the whole") {
  const ds::cpu b({.threads = 2});
  const std::int32_t offsets[] = {0, 5, 13};
  layer_test::expect_layer_gradient<net>(
      b, "v4", ids(tokens, {13}),
      {.how = ds::mode::training, .seed = 3, .sequences = {offsets, {3}}},
      [](auto& p) { fill_tables(p); });
}

TEST_CASE("v4 in small: decoding gives the bits of one run; names as in the files") {
  const ds::cpu b;
  ds::model<net, double, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  fill_tables(m.parameters());
  const auto full = m(b, ids(tokens, {13}));
  auto decoder = m.decoder(b, 13);
  bool same = true;
  for (ds::index_t at = 0; at < 13;) {
    const ds::index_t n = at == 0 ? 4 : 1;
    const auto y = m.decode(b, ids(tokens + at, {n}), decoder);
    same = same && std::memcmp(y.data(), full.data() + at * 13,
                               static_cast<std::size_t>(n) * 13 * sizeof(double)) == 0;
    at += n;
  }
  CHECK(same);
  std::string names = "\n";
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + "\n"; },
            m.parameters());
  for (const char* name :
       {"\nembed.weight\n", "\nlayers.0.hc_attn_fn\n", "\nlayers.0.attn_norm.weight\n",
        "\nlayers.0.attn.wq_a.weight\n", "\nlayers.0.attn.attn_sink\n",
        "\nlayers.1.attn.indexer.weights_proj.weight\n", "\nlayers.1.ffn.gate.tid2eid\n",
        "\nlayers.2.attn.compressor.ape\n", "\nlayers.2.ffn.gate.bias\n",
        "\nlayers.4.ffn.experts.w1.weight\n", "\nlayers.4.ffn.shared_experts.w2.weight\n",
        "\nlayers.4.hc_ffn_scale\n", "\nhc_head_fn\n", "\nnorm.weight\n", "\nhead.weight\n"}) {
    CHECK_MESSAGE(names.find(name) != std::string::npos, name);
  }
  CHECK(names.find("layers.0.attn.compressor") == std::string::npos);
  CHECK(names.find("layers.2.attn.indexer") == std::string::npos);
}
