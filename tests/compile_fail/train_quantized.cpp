// expects: deepseek::linear: a quantized layer has no backward; train the plain type and quantize
// it after SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/quant/int8.hpp>

namespace ds = deepseek;

int main() {
  struct net : ds::chain<ds::linear<4, 4>> {};
#ifdef DEEPSEEK_POSITIVE
  using trained = net;
#else
  using trained = ds::quantized<net, ds::w8a8_per_token>;
#endif
  ds::reference b;
  ds::model<trained, float, ds::reference> m(b);
  ds::tensor<float, ds::host, 2, 4> x;
  auto tape = m.tape(b);
  const auto y = m.forward(b, x, tape);
  ds::parameters<trained, float, ds::host> gradients;
  m.backward(b, x, tape, y, gradients);
}
