// SPDX-License-Identifier: Apache-2.0
// multi_scale_attention, hierarchical_attention: gradients, what they are equal to.
#include "deepseek/layers/multi_scale_attention.hpp"
#include "deepseek/layers/hierarchical_attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/attention.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::attention_config unturned{
    .dim = 8, .heads = 2, .head_dim = 3, .rope = ds::rotary::none};
using causal_scales = ds::multi_scale_attention<heads, ds::token_gates<>, ds::sliding<3>, 2, 4>;
using open_scales = ds::multi_scale_attention<unturned, ds::learned_weights<>, ds::everyone, 3>;
using two_levels = ds::local_then_full<heads, 3>;
using summaries = ds::local_then_summary<heads, 3, 2, ds::hierarchy::plain>;

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
// Means of `factor` rows of 6.
reals means(const reals& x, std::size_t factor) {
  reals y(x.size() / 6 / factor * 6);
  for (std::size_t i = 0; i < y.size(); ++i) {
    for (std::size_t j = 0; j < factor; ++j) {
      y[i] += x[(i / 6 * factor + j) * 6 + i % 6] / static_cast<double>(factor);
    }
  }
  return y;
}
double distance(const reals& a, const reals& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::fmax(most, std::fabs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE_TEMPLATE("several scales and levels: gradients", L, causal_scales, open_scales,
                   two_levels, summaries) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 8> x(9, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "multi-scale attention", x.view(), run);
  const std::int32_t offsets[] = {0, 3, 3, 9};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "multi-scale attention", x.view(), run);
}

TEST_CASE_TEMPLATE("several scales: the definition", B, ds::reference, ds::cpu) {
  using layer = ds::multi_scale_attention<unturned, ds::learned_weights<>, ds::causal, 3>;
  const B b{};
  trial<layer, double> t;
  t.p.mix.bias.data()[0] = 0.4, t.p.mix.bias.data()[1] = -0.7;
  const std::size_t n = 20;
  rows_of<double, 8> x(20);
  const oracle::attention_inputs fine{product(x.values(), t.p.wq.weight.data(), 8, 6),
                                      product(x.values(), t.p.rows.wk.weight.data(), 8, 6),
                                      product(x.values(), t.p.rows.wv.weight.data(), 8, 6)};
  const oracle::attention_inputs coarse{fine.q, means(fine.k, 3), means(fine.v, 3)};
  const double scale = 1 / std::sqrt(3.0);
  const auto o1 = oracle::attention(fine, {n, n, 2, 2, 3, 3, scale},
                                    [](std::size_t i, std::size_t j) { return j <= i; });
  const auto o2 = oracle::attention(coarse, {n, n / 3, 2, 2, 3, 3, scale},
                                    [](std::size_t i, std::size_t e) { return 3 * e + 2 <= i; });
  const double g = 1 / (1 + std::exp(-1.1));
  reals o(o1.out);
  for (std::size_t i = 0; i < o.size(); ++i) o[i] = g * o1.out[i] + (1 - g) * o2.out[i];
  const auto want = product(o, t.p.wo.weight.data(), 6, 8);
  CHECK(distance(t.forward(b, x.view()), want) < 1e-13);
}

TEST_CASE("two levels: a window of the whole sequence is MHA of MHA") {
  using level = ds::multi_head_attention<heads, ds::causal>;
  const ds::reference b;
  rows_of<double, 8> x(6);
  const trial<ds::local_then_full<heads, 6, ds::hierarchy::plain>, double> t;
  const trial<ds::chain<ds::called<"local", level>, ds::called<"global", level>>, double> twice;
  CHECK(support::same_bits(t.forward(b, x.view()), twice.forward(b, x.view())));
  const trial<ds::local_then_full<heads, 2, ds::hierarchy::plain>, double> narrow;
  CHECK(!support::same_bits(t.forward(b, x.view()), narrow.forward(b, x.view())));
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names ==
        "local.wq.weight local.wk.weight local.wv.weight local.wo.weight "
        "global.wq.weight global.wk.weight global.wv.weight global.wo.weight ");
}

TEST_CASE("several scales: sequences side by side") {
  const ds::cpu b({.threads = 2});
  rows_of<float, 8> x(25);
  layer_test::expect_sequences_alone<causal_scales>(b, "multi-scale attention", x,
                                                    {0, 1, 1, 12, 25});
  layer_test::expect_sequences_alone<open_scales>(b, "multi-scale attention", x, {0, 1, 1, 12, 25});
  static_assert(ds::rows_are_independent<causal_scales> && ds::rows_are_independent<two_levels>);
  static_assert(!ds::rows_are_independent<open_scales>);
}
