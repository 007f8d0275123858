// SPDX-License-Identifier: Apache-2.0
// moe of experts with biases (mlp): every expert adds its own; values expert by expert, gradients,
// and the same layer in int8.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/quantize.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

// All experts are active: no choice can flip within a difference step.
inline constexpr ds::moe_config config{.dim = 5, .hidden = 3, .routed = 4, .active = 4};
using expert = ds::mlp<5, 3, ds::activation::silu>;
using layer = ds::moe<config, ds::softmax_top_k<>, expert>;

template <class P>
void raise_biases(P& p) {
  for (ds::index_t i = 0; i < p.w1.bias.size(); ++i) {
    p.w1.bias.data()[i] = static_cast<float>(std::sin(1.0 + static_cast<double>(i)));
  }
  for (ds::index_t i = 0; i < p.w2.bias.size(); ++i) {
    p.w2.bias.data()[i] = static_cast<float>(std::cos(1.0 + static_cast<double>(i)));
  }
}

// Row e of a stacked tensor.
template <class From, class To>
void take(const From& from, ds::index_t e, To& to) {
  std::copy_n(from.data() + e * to.size(), to.size(), to.data());
}

}  // namespace

TEST_CASE_TEMPLATE("moe of mlps: values", B, ds::reference, ds::cpu) {
  const B b;
  rows_of<double, 5> x(70);
  layer_test::trial<layer, double> t;
  raise_biases(t.p.experts);
  // The probabilities, then every expert on every row.
  std::vector<double> want(350);
  std::vector<double> p(280);
  const ds::view<double, ds::host, ds::dyn, ds::dyn> scores(p.data(), {70, 4});
  ds::ops::gemm(b, x.view(), ds::transposed(t.p.gate.weight.view()), scores);
  for (ds::index_t r = 0; r < 70; ++r) {
    double sum = 0;
    for (ds::index_t e = 0; e < 4; ++e) sum += std::exp(scores(r, e));
    for (ds::index_t e = 0; e < 4; ++e) scores(r, e) = std::exp(scores(r, e)) / sum;
  }
  for (ds::index_t e = 0; e < 4; ++e) {
    layer_test::trial<expert, double> one;
    take(t.p.experts.w1.weight, e, one.p.w1.weight);
    take(t.p.experts.w1.bias, e, one.p.w1.bias);
    take(t.p.experts.w2.weight, e, one.p.w2.weight);
    take(t.p.experts.w2.bias, e, one.p.w2.bias);
    const auto y = one.forward(b, x.view());
    for (std::size_t i = 0; i < want.size(); ++i) {
      want[i] += scores(static_cast<ds::index_t>(i / 5), e) * y[i];
    }
  }
  support::expect("moe", "mlp experts",
                  support::compare({.type = ds::dtype::f64, .relative = 1e-14},
                                   t.forward(b, x.view()), want, 5));
}

TEST_CASE("moe of mlps: gradient; threads; a token alone") {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, 5> x(3);
  layer_test::expect_layer_gradient<layer>(b, "moe", x.view(), layer_test::train,
                                           [](auto& p) { raise_biases(p.experts); });
  rows_of<float, 5> many(200);
  layer_test::trial<layer, float> first, second;
  raise_biases(first.p.experts), raise_biases(second.p.experts);
  const auto dx = first.backward(ds::cpu{}, many.view());
  CHECK(support::same_bits(second.backward(ds::cpu{{.threads = 3}}, many.view()), dx));
  CHECK(support::same_bits(layer_test::flat(second.g), layer_test::flat(first.g)));
  layer_test::expect_sequences_alone<layer>(b, "moe", many, {0, 1, 2, 200});
}

TEST_CASE("moe of mlps: quantized experts keep their biases") {
  const ds::cpu b;
  using net = ds::chain<ds::embedding<9, 5>, layer>;
  const std::int32_t tokens[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const ds::view<const std::int32_t, ds::host, ds::dyn> ids(tokens, {9});
  ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 2});
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        if (at.path == "ffn.experts.w2.bias") std::fill_n(t.data(), t.size(), 3.0f);
      },
      m.parameters());
  const auto y = m(b, ids), q = ds::quantize<ds::w8a8_per_token>(b, m)(b, ids);
  for (ds::index_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y.data()[i] - q.data()[i]) < 0.1);
}
