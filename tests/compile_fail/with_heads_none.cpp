// expects: deepseek::with_heads: no heads; write with_heads<trunk, head, ...>
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/task_heads.hpp>
#include <deepseek/layers/with_heads.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
struct net : ds::with_heads<ds::linear<4, 8>, ds::classification_head<8, 3>> {};
#else
struct net : ds::with_heads<ds::linear<4, 8>> {};
#endif

static_assert(net::D == 8);
