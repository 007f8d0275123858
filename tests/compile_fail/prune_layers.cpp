// expects: deepseek::prune: the smaller net has another number of layers
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/prune.hpp>
#include <deepseek/layers/repeat.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t layers = 3;
#else
constexpr ds::index_t layers = 2;
#endif

int main() {
  struct net : ds::chain<ds::repeat<3, ds::swiglu<4, 8>>> {};
  struct smaller : ds::chain<ds::repeat<layers, ds::swiglu<4, 5>>> {};
  const ds::reference b;
  const ds::model<net, float, ds::reference> m(b);
  return ds::prune<smaller>(b, m).parameters().get<0>().all[0].w1.weight.size() == 20 ? 0 : 1;
}
