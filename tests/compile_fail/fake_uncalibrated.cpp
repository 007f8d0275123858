// expects: deepseek::fake_quantize: this format rounds inputs; pass a calibration
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/fake_quantized.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/quant/int4_groups.hpp>
#include <deepseek/quant/int8.hpp>

namespace ds = deepseek;

int main() {
#ifdef DEEPSEEK_POSITIVE
  using format = ds::int4_symmetric<>;
#else
  using format = ds::w8a8;
#endif
  ds::reference b;
  const ds::model<ds::linear<4, 4>, float, ds::reference> m(b);
  return ds::fake_quantize<format>(b, m).parameters().weight.value.size() == 16 ? 0 : 1;
}
