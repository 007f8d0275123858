// expects: deepseek::smoothed: the rule of this format does not follow when channels are scaled
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/linear.hpp>
#include <deepseek/quant/int8.hpp>
#include <deepseek/quant/smoothed.hpp>

namespace ds = deepseek;

int main() {
#ifdef DEEPSEEK_POSITIVE
  using format = ds::smoothed<ds::w8a8>;
#else
  using format = ds::smoothed<ds::w8a8_percentile>;
#endif
  const ds::parameters<ds::linear<4, 4, format>, float, ds::host> p;
  return p.weight.input_scale.size() == 4 ? 0 : 1;
}
