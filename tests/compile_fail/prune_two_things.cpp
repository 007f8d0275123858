// expects: deepseek::prune: the smaller layer differs in more than fewer neurons, heads or experts
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/prune.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t width = 4;
#else
constexpr ds::index_t width = 6;
#endif

int main() {
  struct net : ds::chain<ds::swiglu<4, 8>> {};
  struct smaller : ds::chain<ds::swiglu<width, 5>> {};
  const ds::reference b;
  const ds::model<net, float, ds::reference> m(b);
  const auto small = ds::prune<smaller>(b, m);
  return small.parameters().get<0>().w1.weight.size() == 20 ? 0 : 1;
}
