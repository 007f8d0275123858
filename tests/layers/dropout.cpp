// SPDX-License-Identifier: Apache-2.0
// dropout as a layer: the identity in inference, the same bits when recomputed, others for another
// step, seed or place; gradients.
#include "deepseek/layers/dropout.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/add.hpp"
#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/cpu/dropout.hpp"
#include "deepseek/backend/reference/add.hpp"
#include "deepseek/backend/reference/copy.hpp"
#include "deepseek/backend/reference/dropout.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {
using layer = ds::dropout<16, ds::dropout_config{.rate = 0.25}>;
}

TEST_CASE_TEMPLATE("dropout layer: training and inference", B, ds::reference, ds::cpu) {
  const B b;
  rows_of<float, 16> x(200);
  const layer_test::trial<layer, float> t;
  CHECK(support::same_bits(t.forward(b, x.view()), x.values()));
  const auto y = t.forward(b, x.view(), layer_test::train);
  CHECK(support::same_bits(t.forward(b, x.view(), layer_test::train), y));
  int dropped = 0;
  bool right = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    dropped += y[i] == 0 ? 1 : 0;
    right =
        right && (y[i] == 0 || std::fabs(y[i] - x.values()[i] / 0.75f) <= 1e-6f * std::fabs(y[i]));
  }
  support::expect_true("dropout layer", "values", right, "neither 0 nor x / (1 - rate)");
  CHECK(std::abs(dropped - 800) < 5 * 25);  // 3200 of 1/4: deviation sqrt(600)
  auto later = layer_test::train;
  later.step = 1;
  CHECK(!support::same_bits(t.forward(b, x.view(), later), y));
  auto other = layer_test::train;
  other.seed = 4;
  CHECK(!support::same_bits(t.forward(b, x.view(), other), y));
  // Two of them in a chain sit at two places: they drop independently.
  const layer_test::trial<ds::chain<layer, ds::called<"again", layer>>, float> two;
  const auto z = two.forward(b, x.view(), layer_test::train);
  const auto zeros = std::count(z.begin(), z.end(), 0.0f);
  CHECK(std::abs(zeros - 1400) < 5 * 29);  // 3200 of 7/16
}

TEST_CASE("dropout layer: gradient") {
  const ds::cpu b;
  rows_of<double, 16> x(5);
  layer_test::expect_layer_gradient<layer>(b, "dropout layer", x.view());
  layer_test::expect_layer_gradient<ds::residual<layer>>(b, "dropout layer", x.view());
  layer_test::expect_layer_gradient<layer>(b, "dropout layer", x.view(), {});
}
