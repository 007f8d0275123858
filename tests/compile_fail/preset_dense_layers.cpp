// expects: deepseek::preset: dense_layers is not between 0 and layers - 1
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/models/deepseek.hpp>

namespace ds = deepseek;

constexpr auto shorter = [] {
  auto c = ds::v3;
#ifdef DEEPSEEK_POSITIVE
  c.layers = 4;
#else
  c.layers = 3;
#endif
  return c;
}();
static_assert(ds::preset<shorter>::config.dim == 7168);
