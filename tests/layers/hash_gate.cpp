// SPDX-License-Identifier: Apache-2.0
// hash_gate: experts by token id, lent by the chain and by tied<>, also through checkpointed and a
// cache; weights from the scores; the table is saved and not trained.
#include "deepseek/layers/hash_gate.hpp"
#include "deepseek/deepseek.hpp"

#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

constexpr ds::index_t vocabulary = 11, width = 6;
inline constexpr ds::moe_config config{.dim = 6, .hidden = 4, .routed = 8, .active = 2};
inline constexpr ds::attention_config heads{.dim = 6, .heads = 1};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<config, ds::hash_gate<vocabulary>>>;
struct net : ds::chain<ds::embedding<vocabulary, width>, ds::repeat<2, ds::checkpointed<block>>,
                       ds::rms_norm<width>, ds::linear<width, vocabulary>> {};
struct tied_net
    : ds::tied<
          ds::embedding<vocabulary, width>,
          ds::chain<ds::repeat<1, block>, ds::rms_norm<width>, ds::tied_head<vocabulary, width>>> {
};

using ids_view = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {3, 0, 10, 3, 7, 7, 1};
const ids_view x(tokens, {7});

template <class P>
void fill_tables(P& p) {
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        using Tensor = std::remove_cvref_t<decltype(t)>;
        if constexpr (std::is_integral_v<typename Tensor::value_type>) {
          CHECK(at.role == ds::field_role::state);
          CHECK(at.path.ends_with("ffn.gate.tid2eid"));
          ds::draw_experts(t, 8, 5);
        }
      },
      p);
}

}  // namespace

TEST_CASE("hash_gate: gradients through chain, checkpointed and tied") {
  const ds::cpu b{{.threads = 2}};
  layer_test::expect_layer_gradient<net>(b, "hash_gate", x, layer_test::train,
                                         [](auto& p) { fill_tables(p); });
  layer_test::expect_layer_gradient<tied_net>(b, "hash_gate", x, layer_test::train,
                                              [](auto& p) { fill_tables(p); });
  support::facet("hash_gate", "gradient");
}

TEST_CASE("hash_gate: a token meets the experts of its id; decoding gives the same bits") {
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 2});
  fill_tables(m.parameters());
  const auto y = m(b, x);
  auto d = m.decoder(b, 7);
  for (ds::index_t i = 0; i < 7; ++i) {
    const auto one = m.decode(b, ds::rows(x, i, 1), d);
    for (ds::index_t v = 0; v < vocabulary; ++v) CHECK(one(0, v) == y.view()(i, v));
  }
  // Counted by id: 3 and 7 come twice, 0, 1 and 10 once.
  auto tape = m.tape(b);
  const auto out = m.forward(b, x, tape);
  ds::parameters<net, float, ds::host> g;
  m.backward(b, x, tape, out, g);
  const auto& body = m.parameters().get<1>().all[0].get<1>().body.get<1>();
  const auto& load = g.get<1>().all[0].get<1>().body.get<1>().gate.load;
  std::vector<float> want(8);
  for (std::int32_t id : tokens) {
    for (ds::index_t k = 0; k < 2; ++k) {
      want[static_cast<std::size_t>(body.gate.choice.tid2eid.view()(id, k))] += 1;
    }
  }
  for (std::size_t e = 0; e < 8; ++e) CHECK(load.data()[e] == want[e]);
  support::facet("hash_gate", "forward");
}

TEST_CASE("hash_gate: training leaves the table alone") {
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 2});
  fill_tables(m.parameters());
  auto& table = m.parameters().get<1>().all[1].get<1>().body.get<1>().gate.choice.tid2eid;
  const std::vector<std::int32_t> before(table.data(), table.data() + table.size());
  ds::trainer t(b, m, ds::adamw{}, ds::constant_rate{1e-2});
  const double first = t.micro_step(x, x)->loss;
  double last = first;
  for (int i = 0; i < 20; ++i) last = t.micro_step(x, x)->loss;
  CHECK(last < 0.5 * first);
  CHECK(before == std::vector<std::int32_t>(table.data(), table.data() + table.size()));
}

TEST_CASE("hash_gate: drawn experts differ; errors") {
  ds::tensor<std::int32_t, ds::host, 200, 3> table, other;
  ds::draw_experts(table, 5, 1);
  ds::draw_experts(other, 5, 2);
  int counts[5] = {}, equal = 0;
  for (ds::index_t v = 0; v < 200; ++v) {
    const auto row = [&](ds::index_t k) { return table.view()(v, k); };
    CHECK((row(0) != row(1) && row(1) != row(2) && row(0) != row(2)));
    for (ds::index_t k = 0; k < 3; ++k) {
      ++counts[row(k)];
      equal += row(k) == other.view()(v, k) ? 1 : 0;
    }
  }
  for (int n : counts) CHECK((n > 90 && n < 150));
  CHECK(equal < 200);
  CHECK_ERROR(ds::error_code::invalid_argument, "draw_experts: 3", "of 2",
              ds::draw_experts(table, 2, 1));
  // An expert outside the layer's is an error.
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b);
  m.parameters().get<1>().all[0].get<1>().body.get<1>().gate.choice.tid2eid.view()(3, 1) = 8;
  CHECK_ERROR(ds::error_code::index_range, "gate: ids[0, 1] is 8", "0 .. 7", m(b, x));
}
