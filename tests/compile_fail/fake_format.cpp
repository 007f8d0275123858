// expects: deepseek::fake: this format has no learned steps
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/linear.hpp>
#include <deepseek/quant/fake.hpp>
#include <deepseek/quant/fp8_blocks.hpp>
#include <deepseek/quant/int8_channels.hpp>

namespace ds = deepseek;

int main() {
#ifdef DEEPSEEK_POSITIVE
  using format = ds::fake<ds::int8_channels>;
#else
  using format = ds::fake<ds::fp8_blocks>;
#endif
  const ds::parameters<ds::linear<4, 4, format>, float, ds::host> p;
  return p.weight.log_step.size() == 4 ? 0 : 1;
}
