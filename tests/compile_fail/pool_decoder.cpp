// expects: deepseek::pool: a decoder has no whole sequence to pool (it sees one token after the
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/task_heads.hpp>

namespace ds = deepseek;

struct net : ds::chain<ds::embedding<11, 8>, ds::classification_head<8, 3>> {};

void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
#ifdef DEEPSEEK_POSITIVE
  m(b, ids);
#else
  auto d = m.decoder(b, 8);
  m.decode(b, ids, d);
#endif
}
