// expects: deepseek::linear: a quantized layer has no backward; train the plain type and quantize
// it after SPDX-License-Identifier: Apache-2.0
#include <deepseek/deepseek.hpp>

namespace ds = deepseek;

int main() {
  struct net : ds::chain<ds::linear<4, 4>> {};
#ifdef DEEPSEEK_POSITIVE
  using trained = net;
#else
  using trained = ds::quantized<net, ds::w8a8_per_token>;
#endif
  ds::cpu b;
  ds::model<trained, float, ds::cpu> m(b);
  ds::tensor<float, ds::host, 2, 4> x;
  auto tape = m.tape(b);
  const auto y = m.forward(b, x, tape);
  ds::parameters<trained, float, ds::host> gradients;
  m.backward(b, x, tape, y, gradients);
}
