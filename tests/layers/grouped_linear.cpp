// SPDX-License-Identifier: Apache-2.0
// grouped_linear: each group of columns through its own rows of the weight; gradients.
#include "deepseek/layers/grouped_linear.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/gemm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

TEST_CASE_TEMPLATE("grouped_linear: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  using layer = ds::grouped_linear<3, 2, 4>;
  static_assert(layer::in == 12 && layer::out == 8);
  rows_of<double, 12> x(5);
  layer_test::trial<layer, double> t;
  const auto y = t.forward(b, x.view());
  for (std::size_t j = 0; j < 4; ++j) {
    std::vector<double> in, w(t.p.weight.data() + 6 * j, t.p.weight.data() + 6 * (j + 1)), got;
    for (std::size_t r = 0; r < 5; ++r) {
      for (std::size_t i = 0; i < 3; ++i) in.push_back(x.values()[12 * r + 3 * j + i]);
      for (std::size_t o = 0; o < 2; ++o) got.push_back(y[8 * r + 2 * j + o]);
    }
    support::expect("grouped_linear", support::text("group", j),
                    support::compare(support::gemm_limits(ds::dtype::f64, 3), got,
                                     oracle::linear(in, w, {}, {5, 3, 2}), 2));
  }
  layer_test::expect_layer_gradient<layer>(b, "grouped_linear", x.view());
  support::facet("grouped_linear", "forward");
}
