// expects: deepseek::quantize: this format needs the range of the inputs; pass a calibration as
// third argument or use w8a8_per_token SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/quantize.hpp>
#include <deepseek/quant/int8.hpp>

namespace ds = deepseek;

int main() {
#ifdef DEEPSEEK_POSITIVE
  using format = ds::w8a8_per_token;
#else
  using format = ds::w8a8;
#endif
  ds::reference b;
  const ds::model<ds::linear<4, 4>, float, ds::reference> m(b);
  return ds::quantize<format>(b, m).parameters().weight.scale.size() == 4 ? 0 : 1;
}
