// SPDX-License-Identifier: Apache-2.0
// A small model derived from V3's value: its paths are those of the files, it trains (the selection
// bias moves), and decoding gives the bits of prefill in one form of latent attention.
#include "deepseek/deepseek.hpp"
#include "deepseek/models/deepseek.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace ds = deepseek;

namespace {

inline constexpr auto tiny = [] {
  auto c = ds::v3;
  c.vocabulary = 17;
  c.dim = 16;
  c.layers = 3;
  c.hidden = 24;
  c.dense_layers = 1;
  c.latent.heads = 2;
  c.latent.q_rank = 12;
  c.latent.kv_rank = 8;
  c.latent.nope_dim = 8;
  c.latent.rope_dim = 4;
  c.latent.v_dim = 8;
  c.latent.form = ds::latent_form::naive;
  c.experts.hidden = 8;
  c.experts.routed = 8;
  c.experts.active = 2;
  c.gate.groups = 4;
  c.gate.top_groups = 2;
  return c;
}();
using net = ds::preset<tiny>::net;
using model = ds::model<net, float, ds::cpu>;

const std::int32_t tokens[] = {3, 16, 0, 7, 3, 3, 9, 1};
const std::int32_t targets[] = {16, 0, 7, 3, 3, 9, 1, 2};
const ds::view<const std::int32_t, ds::host, ds::dyn> x(tokens, {8}), y(targets, {8});

}  // namespace

TEST_CASE("derived from V3: paths") {
  const ds::cpu b;
  model m(b);
  std::set<std::string> got;
  ds::visit([&](const ds::tensor_name& at, auto&) { got.insert(at.path); }, m.parameters());
  std::set<std::string> want = {"embed.weight", "norm.weight", "head.weight"};
  for (const char* i : {"0", "1", "2"}) {
    const std::string layer = std::string("layers.") + i + ".";
    for (const char* part : {"attn_norm", "ffn_norm", "attn.wq_a", "attn.q_norm", "attn.wq_b",
                             "attn.wkv_a", "attn.kv_norm", "attn.wkv_b", "attn.wo"}) {
      want.insert(layer + part + ".weight");
    }
    const bool dense = *i == '0';
    for (const char* w : {"w1", "w2", "w3"}) {
      const std::string name = std::string(w) + ".weight";
      if (dense) {
        want.insert(layer + "ffn." + name);
      } else {
        want.insert(layer + "ffn.experts." + name);
        want.insert(layer + "ffn.shared_experts." + name);
      }
    }
    if (!dense) {
      want.insert(layer + "ffn.gate.weight");
      want.insert(layer + "ffn.gate.bias");
      want.insert(layer + "ffn.gate.load");
    }
  }
  CHECK(got == want);
  CHECK(ds::parameter_count<net>() == ds::parameter_count(m.parameters()));
}

TEST_CASE("derived from V3: training; decoding equals prefill") {
  const ds::cpu b;
  model m(b, ds::normal_init{.stddev = 0.2, .seed = 3});
  ds::trainer t(b, m, ds::adamw{.weight_decay = 0}, ds::constant_rate{1e-2});
  const double first = t.micro_step(x, y)->loss;
  double last = first;
  for (int i = 0; i < 40; ++i) last = t.micro_step(x, y)->loss;
  CHECK(last < 0.5 * first);
  double moved = 0;
  ds::visit(
      [&](const ds::tensor_name& at, auto& p) {
        if (!at.path.ends_with("gate.bias")) return;
        for (ds::index_t i = 0; i < p.size(); ++i) {
          moved += std::fabs(static_cast<double>(p.data()[i]));
        }
      },
      m.parameters());
  CHECK(moved > 0);

  const auto whole = m(b, x);
  auto d = m.decoder(b, 8);
  bool equal = true;
  for (ds::index_t n = 0; n < 8; ++n) {
    const auto row = m.decode(b, ds::rows(x, n, 1), d);
    for (ds::index_t v = 0; v < 17; ++v) equal = equal && row(0, v) == whole.view()(n, v);
  }
  CHECK(equal);
}
