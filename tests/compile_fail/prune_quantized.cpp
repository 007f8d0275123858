// expects: deepseek::prune: this net's weights are codes
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/prune.hpp>
#include <deepseek/quant/int4_groups.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using format = ds::plain;
#else
using format = ds::int4_groups<>;
#endif

int main() {
  struct net : ds::chain<ds::swiglu<64, 96, format>> {};
  struct smaller : ds::chain<ds::swiglu<64, 64, format>> {};
  const ds::reference b;
  const ds::model<net, float, ds::reference> m(b);
  const auto small = ds::prune<smaller>(b, m);
  return sizeof small > 0 ? 0 : 1;
}
