// SPDX-License-Identifier: Apache-2.0
// rms_norm and layer_norm as layers: their constants, gradients, rows alone.
#include "deepseek/layers/norm.hpp"

#include "deepseek/backend/cpu/layer_norm.hpp"
#include "deepseek/backend/cpu/rms_norm.hpp"
#include "deepseek/backend/reference/layer_norm.hpp"
#include "deepseek/backend/reference/rms_norm.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/norm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

TEST_CASE_TEMPLATE("norms: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  rows_of<double, 6> x(5);
  using wide = ds::rms_norm<6, ds::norm_config{.eps = 0.5}>;
  layer_test::trial<wide, double> t;
  const std::vector<double> w(t.p.weight.data(), t.p.weight.data() + 6);
  support::expect("norm layer", "eps of the config",
                  support::compare(support::gemm_limits(ds::dtype::f64, 16), t.forward(b, x.view()),
                                   oracle::rms_norm(x.values(), w, 6, 0.5), 6));
  layer_test::expect_layer_gradient<ds::rms_norm<6>>(b, "norm layer", x.view());
  layer_test::expect_layer_gradient<wide>(b, "norm layer", x.view());
  layer_test::expect_layer_gradient<ds::layer_norm<6>>(b, "norm layer", x.view());
}

TEST_CASE("norms: a row has the bits of the row alone") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 33> x(40);
  layer_test::trial<ds::layer_norm<33>, float> t;
  layer_test::expect_sequences_alone<ds::rms_norm<33>>(b, "norm layer", x, {0, 1, 7, 40});
  layer_test::expect_sequences_alone<ds::layer_norm<33>>(b, "norm layer", x, {0, 1, 7, 40});
}
