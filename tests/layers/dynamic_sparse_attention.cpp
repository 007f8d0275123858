// SPDX-License-Identifier: Apache-2.0
// dynamic_sparse_attention: what it selects and adds, written out; gradients of each form; a set of
// all tokens is dense attention.
#include "deepseek/layers/dynamic_sparse_attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/attention.hpp"

#include <algorithm>

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

constexpr ds::dynamic_sparse_config with(ds::index_t count, ds::token_choice choice,
                                         ds::selector_gradient gradient, ds::branch_sum sum) {
  return {.attention = {.dim = 6, .heads = 2, .head_dim = 4, .rope = ds::rotary::none},
          .window = 3,
          .global = {.count = count, .choice = choice, .gradient = gradient},
          .sum = sum};
}
constexpr auto faithful =
    with(4, ds::token_choice::shared, ds::selector_gradient::none, ds::branch_sum::plain);
constexpr auto sound =
    with(4, ds::token_choice::causal, ds::selector_gradient::through_values, ds::branch_sum::gated);
constexpr auto shared =
    with(4, ds::token_choice::shared, ds::selector_gradient::through_values, ds::branch_sum::gated);
constexpr auto untaught =
    with(4, ds::token_choice::causal, ds::selector_gradient::none, ds::branch_sum::plain);

using reals = std::vector<double>;

reals product(const reals& x, const double* w, std::size_t in, std::size_t out) {
  reals y(x.size() / in * out);
  for (std::size_t i = 0; i < x.size() / in; ++i) {
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t c = 0; c < in; ++c) y[i * out + o] += x[i * in + c] * w[o * in + c];
    }
  }
  return y;
}
double distance(const reals& a, const reals& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::fmax(most, std::fabs(a[i] - b[i]));
  return most;
}

// Whether token j is among the `count` highest scores of tokens 0 .. last.
bool selected(const reals& scores, std::size_t j, std::size_t last, std::size_t count) {
  std::size_t before = 0;
  for (std::size_t k = 0; k <= last; ++k) {
    before += scores[k] > scores[j] || (scores[k] == scores[j] && k < j) ? 1 : 0;
  }
  return j <= last && before < count;
}

template <ds::dynamic_sparse_config C, class P>
reals expected(const reals& x, const P& p) {
  constexpr bool looks_back = C.global.choice == ds::token_choice::causal;
  const std::size_t n = x.size() / 6;
  const auto count = static_cast<std::size_t>(C.global.count);
  const auto& selector = p.template get<1>().selector;
  reals s = product(x, selector.weight.data(), 6, 1);
  for (double& v : s) v += selector.bias.data()[0];
  oracle::attention_inputs in{product(x, p.wq.weight.data(), 6, 8),
                              product(x, p.rows.wk.weight.data(), 6, 8),
                              product(x, p.rows.wv.weight.data(), 6, 8)};
  const oracle::attention_shape shape{n, n, 2, 2, 4, 4, 0.5};
  const reals local = oracle::attention(in, shape, [](std::size_t i, std::size_t j) {
                        return looks_back ? j <= i && i < j + 3 : i <= j + 3 && j <= i + 3;
                      }).out;
  if (C.global.gradient == ds::selector_gradient::through_values) {
    for (std::size_t i = 0; i < in.v.size(); ++i) in.v[i] /= 1 + std::exp(-s[i / 8]);
  }
  const reals global = oracle::attention(in, shape, [&](std::size_t i, std::size_t j) {
                         return selected(s, j, looks_back ? i : n - 1, count);
                       }).out;
  reals o(local.size());
  for (std::size_t i = 0; i < o.size(); ++i) {
    double g[2] = {1, 1};
    if constexpr (C.sum == ds::branch_sum::gated) {
      const std::size_t t = i / 8, h = i / 4 % 2;
      double z[2];
      for (std::size_t b = 0; b < 2; ++b) {
        z[b] = p.mix.gate.bias.data()[h * 2 + b];
        for (std::size_t c = 0; c < 6; ++c) {
          z[b] += x[t * 6 + c] * p.mix.gate.weight.data()[(h * 2 + b) * 6 + c];
        }
      }
      g[0] = 1 / (1 + std::exp(z[1] - z[0])), g[1] = 1 - g[0];
    }
    o[i] = g[0] * local[i] + g[1] * global[i];
  }
  return product(o, p.wo.weight.data(), 8, 6);
}

template <ds::dynamic_sparse_config C, class B>
void check_values(const B& b) {
  trial<ds::dynamic_sparse_attention<C>, double> t;
  t.p.template get<1>().selector.bias.data()[0] = 0.2;
  rows_of<double, 6> x(19);
  CHECK(distance(t.forward(b, x.view()), expected<C>(x.values(), t.p)) < 1e-13);
}

}  // namespace

TEST_CASE_TEMPLATE("dynamic sparse attention: the definition", B, ds::reference, ds::cpu) {
  const B b{};
  check_values<faithful>(b);
  check_values<sound>(b);
  check_values<shared>(b);
}

TEST_CASE_TEMPLATE("dynamic sparse attention: gradients", L, ds::dynamic_sparse_attention<faithful>,
                   ds::dynamic_sparse_attention<sound>, ds::dynamic_sparse_attention<shared>,
                   ds::dynamic_sparse_attention<untaught>) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 6> x(11, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "dynamic sparse attention", x.view(), run);
  const std::int32_t offsets[] = {0, 4, 4, 11};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "dynamic sparse attention", x.view(), run);
}

TEST_CASE("dynamic sparse attention: a choice of all tokens is dense attention") {
  const ds::reference b;
  rows_of<double, 6> x(9);
  constexpr ds::attention_config c = untaught.attention;
  constexpr ds::top_tokens_config all{.count = 9, .gradient = ds::selector_gradient::none};
  trial<ds::fused_attention<c, ds::fixed_weights<>, ds::plain, ds::top_tokens<all>>, double> t;
  const trial<ds::multi_head_attention<c, ds::causal>, double> dense;
  t.p.wq = dense.p.wq, t.p.wo = dense.p.wo;
  t.p.rows.wk = dense.p.wk, t.p.rows.wv = dense.p.wv;
  CHECK(support::same_bits(t.forward(b, x.view()), dense.forward(b, x.view())));
}

TEST_CASE("dynamic sparse attention: the selector learns through values only") {
  const ds::reference b;
  rows_of<double, 6> x(11);
  trial<ds::dynamic_sparse_attention<sound>, double> taught;
  trial<ds::dynamic_sparse_attention<untaught>, double> not_taught;
  taught.backward(b, x.view());
  not_taught.backward(b, x.view());
  const auto size = [](auto& t) {
    double sum = 0;
    for (int i = 0; i < 6; ++i) {
      sum += std::fabs(t.g.template get<1>().selector.weight.data()[i]);
    }
    return sum;
  };
  CHECK(size(taught) > 0);
  CHECK(size(not_taught) == 0);
}

TEST_CASE("dynamic sparse attention: sequences side by side, threads") {
  using layer = ds::dynamic_sparse_attention<sound>;
  const ds::cpu b({.threads = 2});
  rows_of<float, 6> x(45);
  layer_test::expect_sequences_alone<layer>(b, "dynamic sparse attention", x, {0, 1, 1, 20, 45});
  trial<layer, float> one, more;
  const auto dx = one.backward(ds::cpu{}, x.view());
  CHECK(support::same_bits(dx, more.backward(ds::cpu{{.threads = 2}}, x.view())));
  CHECK(layer_test::flat(one.g) == layer_test::flat(more.g));
  static_assert(ds::rows_are_independent<layer>);
  static_assert(!ds::rows_are_independent<ds::dynamic_sparse_attention<shared>>);
}
