// SPDX-License-Identifier: Apache-2.0
// swiglu as a layer: values against the oracle, gradients, no rows.
#include "deepseek/layers/mlp.hpp"

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/cpu/add.hpp"
#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/add.hpp"
#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/backend/reference/swiglu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

TEST_CASE_TEMPLATE("swiglu: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  using layer = ds::swiglu<4, 6>;
  rows_of<double, 4> x(5);
  layer_test::trial<layer, double> t;
  const auto values = [](const auto& w) {
    return std::vector<double>(w.data(), w.data() + w.size());
  };
  const auto gate = oracle::linear(x.values(), values(t.p.w1.weight), {}, {5, 4, 6});
  auto h = oracle::linear(x.values(), values(t.p.w3.weight), {}, {5, 4, 6});
  for (std::size_t i = 0; i < h.size(); ++i) h[i] *= oracle::silu(gate[i]);
  const auto want = oracle::linear(h, values(t.p.w2.weight), {}, {5, 6, 4});
  support::expect(
      "swiglu layer", "values",
      support::compare(support::gemm_limits(ds::dtype::f64, 64), t.forward(b, x.view()), want, 4));
  layer_test::expect_layer_gradient<layer>(b, "swiglu layer", x.view());
  CHECK(t.forward(b, x.rows(0, 0)).empty());
  CHECK(t.backward(b, x.rows(0, 0)).empty());
  for (double g : layer_test::flat(t.g)) CHECK(g == 0);
}

TEST_CASE("swiglu layer: a limit of gate and up") {
  // Every gate and up is 0.02 and more from the limit; some are beyond it, some are not.
  const ds::cpu b;
  using layer = ds::swiglu<4, 6, ds::plain, ds::swiglu_config{.limit = 0.5}>;
  rows_of<double, 4> x(5);
  layer_test::trial<layer, double> t;
  layer_test::trial<ds::swiglu<4, 6>, double> open;
  CHECK(!support::same_bits(t.forward(b, x.view()), open.forward(b, x.view())));
  const auto scaled = [](auto& p) {
    for (ds::index_t i = 0; i < p.w1.weight.size(); ++i) {
      p.w1.weight.data()[i] *= 3, p.w3.weight.data()[i] *= 3;
    }
  };
  layer_test::expect_layer_gradient<layer>(b, "swiglu layer", x.view(), layer_test::train, scaled);
}
