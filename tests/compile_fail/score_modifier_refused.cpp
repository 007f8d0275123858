// expects: deepseek::scored: this op has scores of its own
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/soft_cap.hpp>

#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/ops/attention_weights.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using seen = ds::causal;
#else
using seen = ds::scored<ds::causal, ds::soft_cap<50>>;
#endif

void weights(const ds::view<const float, ds::host, 2, 1, 4>& q,
             const ds::view<const float, ds::host, 2, 1>& lse,
             const ds::view<float, ds::host, 2, 2>& p) {
  ds::ops::attention_weights(ds::reference(), ds::attention_weights_inputs{q, q, lse}, p,
                             ds::attention_spec<seen>{});
}
