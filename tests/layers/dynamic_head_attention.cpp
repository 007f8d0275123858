// SPDX-License-Identifier: Apache-2.0
// dynamic_head_attention: gradients of the soft mask, the straight-through estimate of the hard
// one; which heads count; the gate of a token and of a sequence.
#include "deepseek/layers/dynamic_head_attention.hpp"

#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4};
template <ds::head_gate_by By, ds::mask_edge Edge>
using layer = ds::dynamic_head_attention<
    heads, std::conditional_t<By == ds::head_gate_by::token, ds::causal, ds::everyone>,
    ds::head_gate_config{.by = By, .edge = Edge, .temperature = 0.5}>;
using token_soft = layer<ds::head_gate_by::token, ds::mask_edge::soft>;
using token_hard = layer<ds::head_gate_by::token, ds::mask_edge::hard>;
using sequence_soft = layer<ds::head_gate_by::sequence, ds::mask_edge::soft>;
using sequence_hard = layer<ds::head_gate_by::sequence, ds::mask_edge::hard>;

// The gate says about 0.5 + bias whatever the token.
template <class P>
void set_gate(P& p, double weight, double bias) {
  for (int i = 0; i < 8; ++i) p.mix.gate.weight.data()[i] = weight;
  p.mix.gate.bias.data()[0] = bias;
}

}  // namespace

TEST_CASE_TEMPLATE("dynamic heads: gradients of the soft mask", L, token_soft, sequence_soft) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 8> x(7, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "dynamic heads", x.view(), run);
  const std::int32_t offsets[] = {0, 3, 3, 7};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "dynamic heads", x.view(), run);
}

// With all heads counted by a saturated gate, hard and soft agree up to e^-60, and so do gradients;
// then the gate's own gradient is compared where the masks differ: it is the soft mask's formula.
TEST_CASE("dynamic heads: straight through") {
  const ds::reference b;
  rows_of<double, 8> x(5);
  trial<token_hard, double> hard;
  set_gate(hard.p, 0, 0.4);  // H g = 4 * 0.598688 = 2.39: two heads
  hard.backward(b, x.view());
  // d loss / d mask[t, h] = sum over the head's outputs of dy Wo o, from a layer whose mask is 1.
  trial<ds::multi_head_attention<heads, ds::causal>, double> whole;
  ds::arena<ds::host> tape;
  ds::keep<ds::for_backward, ds::multi_head_attention<heads, ds::causal>, double, ds::host> kept;
  std::vector<double> y(40);
  const ds::call<ds::reference> c{b, layer_test::train, b.workspace(), tape, 7, {}};
  ds::run_forward<ds::multi_head_attention<heads, ds::causal>>(
      c, whole.p, ds::as_const(x.view()), ds::view<double, ds::host, ds::dyn, 8>(y.data(), {5, 8}),
      kept);
  const auto dy = support::loss_weights(40);
  const double g = 1 / (1 + std::exp(-0.4));
  double want = 0;  // of the bias: sum over tokens and heads
  for (int t = 0; t < 5; ++t) {
    for (int h = 0; h < 4; ++h) {
      double dmask = 0;
      for (int d = 2 * h; d < 2 * h + 2; ++d) {
        for (int o = 0; o < 8; ++o) {
          dmask += dy[static_cast<std::size_t>(t * 8 + o)] * whole.p.wo.weight.view()(o, d) *
                   kept.own.o(t, d);
        }
      }
      const double s = 1 / (1 + std::exp(-(4 * g - h) / 0.5));
      want += dmask * (4 / 0.5) * s * (1 - s) * g * (1 - g);
    }
  }
  CHECK(hard.g.mix.gate.bias.data()[0] == doctest::Approx(want).epsilon(1e-10));
}

TEST_CASE("dynamic heads: the gate says how many of the first heads count") {
  const ds::reference b;
  rows_of<double, 8> x(6);
  trial<token_hard, double> t;
  const trial<ds::multi_head_attention<heads, ds::causal>, double> plain;
  set_gate(t.p, 0, 50);
  CHECK(support::same_bits(t.forward(b, x.view()), plain.forward(b, x.view())));
  for (const int count : {1, 2, 3}) {
    set_gate(t.p, 0, std::log(count / 4.0 / (1 - count / 4.0)));
    trial<ds::multi_head_attention<heads, ds::causal>, double> cut;
    for (int o = 0; o < 8; ++o) {
      for (int d = 2 * count; d < 8; ++d) cut.p.wo.weight.view()(o, d) = 0;
    }
    const auto y = t.forward(b, x.view()), want = cut.forward(b, x.view());
    double most = 0;
    for (std::size_t i = 0; i < y.size(); ++i) most = std::fmax(most, std::fabs(y[i] - want[i]));
    CHECK(most < 1e-14);
  }
  set_gate(t.p, 0, -50);  // one head at least
  auto y = t.forward(b, x.view());
  double size = 0;
  for (const double v : y) size += std::fabs(v);
  CHECK(size > 0.1);
}

TEST_CASE("dynamic heads: a gate of the sequence is one for all its tokens") {
  const ds::reference b;
  rows_of<double, 8> x(6);
  trial<sequence_hard, double> t;
  trial<ds::multi_head_attention<heads, ds::everyone>, double> cut;
  // The mean token decides; a large last token turns the count for the first ones, too.
  set_gate(t.p, 0.05, 0);
  const auto before = t.forward(b, x.view());
  for (int i = 0; i < 8; ++i) x.values()[static_cast<std::size_t>(40 + i)] += 1000;
  const auto after = t.forward(b, x.view());
  CHECK(!support::same_bits(before, after));
  const auto dense = cut.forward(b, x.view());
  CHECK(support::same_bits(after, dense));  // H g is now 4 for every token
  static_assert(!ds::rows_are_independent<sequence_hard> && ds::rows_are_independent<token_hard>);
}

TEST_CASE("dynamic heads: sequences side by side") {
  const ds::cpu b({.threads = 2});
  rows_of<float, 8> x(25);
  layer_test::expect_sequences_alone<sequence_soft>(b, "dynamic heads", x, {0, 1, 1, 12, 25});
  layer_test::expect_sequences_alone<token_hard>(b, "dynamic heads", x, {0, 1, 1, 12, 25});
}
