// expects: deepseek::prune: this net's weights are codes
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/deepseek.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using format = ds::plain;
#else
using format = ds::int4_groups<>;
#endif

int main() {
  struct net : ds::chain<ds::swiglu<64, 96, format>> {};
  struct smaller : ds::chain<ds::swiglu<64, 64, format>> {};
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b);
  const auto small = ds::prune<smaller>(b, m);
  return sizeof small > 0 ? 0 : 1;
}
