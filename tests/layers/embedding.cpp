// SPDX-License-Identifier: Apache-2.0
// embedding as a layer: rows of the table, gradients of repeated tokens, ids out of range.
#include "deepseek/layers/embedding.hpp"

#include "deepseek/backend/cpu/embedding.hpp"
#include "deepseek/backend/reference/embedding.hpp"

#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE_TEMPLATE("embedding: values, gradients, errors", B, ds::reference, ds::cpu) {
  const B b;
  using layer = ds::embedding<7, 5>;
  const std::int32_t tokens[] = {3, 0, 3, 6, 3, 1};
  const ds::view<const std::int32_t, ds::host, ds::dyn> ids(tokens, {6});
  layer_test::trial<layer, double> t;
  const auto y = t.forward(b, ids);
  bool right = y.size() == 30;
  for (std::size_t i = 0; i < y.size(); ++i) {
    right = right && y[i] == t.p.weight.data()[tokens[i / 5] * 5 + static_cast<int>(i % 5)];
  }
  support::expect_true("embedding layer", "rows", right, "not the rows of the table");
  layer_test::expect_layer_gradient<layer>(b, "embedding layer", ids);
  const std::int32_t bad[] = {1, 7};
  CHECK_ERROR(ds::error_code::index_range, "7",
              t.forward(b, ds::view<const std::int32_t, ds::host, ds::dyn>(bad, {2})));
  CHECK(t.forward(b, ds::view<const std::int32_t, ds::host, ds::dyn>(bad, {0})).empty());
}
