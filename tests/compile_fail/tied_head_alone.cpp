// expects: deepseek::call: this layer needs a value that the call does not carry; pass it
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/head.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
struct net : ds::tied<ds::embedding<11, 8>, ds::tied_head<11, 8>> {};
#else
struct net : ds::chain<ds::embedding<11, 8>, ds::tied_head<11, 8>> {};
#endif

void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  m(b, ids);
}
