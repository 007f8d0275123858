// expects: deepseek::linear: the input's width is not the layer's; write linear<in, out>
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int width = 8;
#else
constexpr int width = 9;
#endif

struct net : ds::chain<ds::embedding<11, 8>, ds::linear<width, 4>> {};

void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  m(b, ids);
}
