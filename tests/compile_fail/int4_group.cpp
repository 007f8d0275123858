// expects: deepseek::int4_groups: the group is not 32, 64 or 128 weights
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/linear.hpp>
#include <deepseek/quant/int4_groups.hpp>

namespace ds = deepseek;

int main() {
#ifdef DEEPSEEK_POSITIVE
  using format = ds::int4_groups<64>;
#else
  using format = ds::int4_groups<48>;
#endif
  const ds::parameters<ds::linear<96, 4, format>, float, ds::host> p;
  return p.weight.zero.size() > 0 ? 0 : 1;
}
