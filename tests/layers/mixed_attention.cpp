// SPDX-License-Identifier: Apache-2.0
// mixed_attention: gradients with each kind of weights; what it is equal to (one branch, equal
// branches, the sum of layers) and what it is not (one softmax over the union).
#include "deepseek/layers/mixed_attention.hpp"

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

inline constexpr ds::attention_config heads{
    .dim = 8, .heads = 4, .kv_heads = 2, .projection_bias = ds::bias::present};
using near = ds::sliding<2>;
using blocks = ds::both<ds::causal, ds::block<3>>;
using drawn = ds::both<ds::causal, ds::random_blocks<2, 1>>;
using weights = ds::fixed_weights<ds::branch_weights{{0.5, 0.3, -0.2}}>;

using fixed = ds::mixed_attention<heads, weights, near, blocks, drawn>;
using learned = ds::mixed_attention<heads, ds::learned_weights<>, near, blocks>;
using scaled =
    ds::mixed_attention<heads, ds::learned_weights<ds::weight_score::sigmoid>, near, blocks>;
using gated = ds::mixed_attention<heads, ds::token_gates<>, near, ds::everyone>;
using gates = ds::mixed_attention<heads, ds::token_gates<ds::weight_score::sigmoid>, near, drawn>;

// One after the other: local, then block.
using in_turn =
    ds::chain<ds::residual<ds::multi_head_attention<heads, near>>,
              ds::residual<ds::called<"block", ds::multi_head_attention<heads, blocks>>>>;

// The projections of a, those of b.
template <class A, class B>
void copy_projections(const A& a, B& b) {
  b.p.wq = a.p.wq, b.p.wo = a.p.wo;
  b.p.rows.wk = a.p.wk, b.p.rows.wv = a.p.wv;
}
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::fmax(most, std::fabs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE_TEMPLATE("mixed attention: gradients", L, fixed, learned, scaled, gated, gates, in_turn) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 8> x(7, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "mixed attention", x.view(), run);
  const std::int32_t offsets[] = {0, 3, 3, 7};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "mixed attention", x.view(), run);
}

TEST_CASE("mixed attention: one branch of weight one is attention over its pattern") {
  const ds::reference b;
  rows_of<double, 8> x(9);
  const trial<ds::multi_head_attention<heads, blocks>, double> plain;
  trial<ds::mixed_attention<heads, ds::fixed_weights<>, blocks>, double> one;
  copy_projections(plain, one);
  CHECK(support::same_bits(one.forward(b, x.view()), plain.forward(b, x.view())));
  // Two equal branches that share one weight by a softmax: the same within rounding.
  trial<ds::mixed_attention<heads, ds::token_gates<>, blocks, blocks>, double> twice;
  copy_projections(plain, twice);
  CHECK(distance(twice.forward(b, x.view()), plain.forward(b, x.view())) < 1e-14);
}

TEST_CASE("mixed attention: the weighted sum of the layers, not the softmax over the union") {
  const ds::reference b;
  rows_of<double, 8> x(9);
  const trial<ds::multi_head_attention<heads, near>, double> first;
  trial<ds::multi_head_attention<heads, blocks>, double> second;
  trial<ds::multi_head_attention<heads, ds::either<near, blocks>>, double> together;
  trial<
      ds::mixed_attention<heads, ds::fixed_weights<ds::branch_weights{{0.25, 0.75}}>, near, blocks>,
      double>
      mixed;
  copy_projections(first, mixed);
  auto want = first.forward(b, x.view());
  const auto other = second.forward(b, x.view());
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = 0.25 * want[i] + 0.75 * other[i];
  CHECK(distance(mixed.forward(b, x.view()), want) < 1e-14);
  CHECK(distance(together.forward(b, x.view()), want) > 1e-2);
  // A union that shows every earlier key is dense causal attention.
  trial<ds::multi_head_attention<heads, ds::either<near, ds::causal>>, double> all;
  trial<ds::multi_head_attention<heads, ds::causal>, double> dense;
  CHECK(support::same_bits(all.forward(b, x.view()), dense.forward(b, x.view())));
}

TEST_CASE("mixed attention: sequences side by side, threads, names") {
  const ds::cpu b({.threads = 2});
  rows_of<float, 8> x(25);
  layer_test::expect_sequences_alone<gates>(b, "mixed attention", x, {0, 1, 1, 12, 25});
  trial<gates, float> one, more;
  const auto dx = one.backward(ds::cpu{}, x.view());
  CHECK(support::same_bits(dx, more.backward(ds::cpu{{.threads = 2}}, x.view())));
  CHECK(layer_test::flat(one.g) == layer_test::flat(more.g));
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, one.p);
  CHECK(names ==
        "wq.weight wq.bias wk.weight wk.bias wv.weight wv.bias wo.weight mix.weight "
        "mix.bias ");
  static_assert(ds::rows_are_independent<gates> && !ds::rows_are_independent<gated>);
}
