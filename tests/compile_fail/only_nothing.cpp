// expects: deepseek::only: no layers are listed
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/quant/int8_channels.hpp>
#include <deepseek/quant/only.hpp>

namespace ds = deepseek;

int main() {
  struct net : ds::chain<ds::linear<4, 4>> {};
#ifdef DEEPSEEK_POSITIVE
  using format = ds::only<ds::int8_channels, ds::linear<4, 4>>;
#else
  using format = ds::only<ds::int8_channels>;
#endif
  const ds::parameters<ds::quantized<net, format>, float, ds::host> p;
  return p.get<0>().weight.q.size() == 16 ? 0 : 1;
}
