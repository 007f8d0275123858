// SPDX-License-Identifier: Apache-2.0
// mlp with each function: values against the oracle and gradients; relu away from its kink.
#include "deepseek/layers/mlp.hpp"

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/activation.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t rows = 4, dim = 3, hidden = 5;

template <class Tensor>
std::vector<double> values(const Tensor& t) {
  return std::vector<double>(t.data(), t.data() + t.size());
}

double function(ds::activation act, double x) {
  return act == ds::activation::relu   ? oracle::relu(x)
         : act == ds::activation::silu ? oracle::silu(x)
                                       : oracle::gelu(x);
}

// Biases that keep every hidden sum 0.4 and more away from zero, half of them on either side.
template <class P>
void away_from_zero(P& p) {
  for (ds::index_t i = 0; i < p.w1.weight.size(); ++i) p.w1.weight.data()[i] *= 0.2;
  for (ds::index_t i = 0; i < p.w1.bias.size(); ++i) p.w1.bias.data()[i] = i % 2 == 0 ? 2 : -2;
}

template <ds::activation Act, class B>
void check(const B& b) {
  using layer = ds::mlp<dim, hidden, Act>;
  rows_of<double, dim> x(rows);
  layer_test::trial<layer, double> t;
  away_from_zero(t.p);
  auto before =
      oracle::linear(x.values(), values(t.p.w1.weight), values(t.p.w1.bias), {rows, dim, hidden});
  for (double& e : before) {
    CHECK(std::fabs(e) > 0.4);
    e = function(Act, e);
  }
  const auto want =
      oracle::linear(before, values(t.p.w2.weight), values(t.p.w2.bias), {rows, hidden, dim});
  support::expect("mlp", std::string(b.name()),
                  support::compare(support::gemm_limits(ds::dtype::f64, 64), t.forward(b, x.view()),
                                   want, dim));
  layer_test::expect_layer_gradient<layer>(b, "mlp", x.view(), layer_test::train,
                                           [](auto& p) { away_from_zero(p); });
}

}  // namespace

TEST_CASE_TEMPLATE("mlp: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  check<ds::activation::relu>(b);
  check<ds::activation::silu>(b);
  check<ds::activation::gelu>(b);
  support::facet("mlp", "forward");
}
