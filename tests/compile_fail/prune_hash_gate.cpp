// expects: deepseek::units: this gate keeps more than a bias for each expert
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/hash_gate.hpp>
#include <deepseek/layers/prune.hpp>

#include <deepseek/backend/cpu/cpu.hpp>

namespace ds = deepseek;

constexpr ds::moe_config wide{.dim = 4, .hidden = 3, .routed = 4, .active = 2};
constexpr ds::moe_config fewer{.dim = 4, .hidden = 3, .routed = 3, .active = 2};
#ifdef DEEPSEEK_POSITIVE
using gate = ds::sigmoid_top_k;
#else
using gate = ds::hash_gate<10>;
#endif

int main() {
  struct net : ds::chain<ds::moe<wide, gate>> {};
  struct smaller : ds::chain<ds::moe<fewer, gate>> {};
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b);
  const auto small = ds::prune<smaller>(b, m);
  return small.parameters().get<0>().gate.weight.size() == 12 ? 0 : 1;
}
