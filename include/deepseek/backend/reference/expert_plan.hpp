// SPDX-License-Identifier: Apache-2.0
// expert_plan on the reference backend: plain loops; see ops/expert_plan.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/ops/expert_plan.hpp"

namespace deepseek {

// offsets[e] serves as the next free row of expert e while the rows are dealt out; then it holds
// the start of e + 1 and moves one place up.
template <class Ids, class Plan>
void expert_plan_impl(const reference&, const Ids& ids, index_t experts, const Plan& plan) {
  require_indices(ids, experts, "expert_plan: ids", absent_index);
  index_t sent = 0;
  for (index_t t = 0; t < ids.extent(0); ++t) {
    for (index_t k = 0; k < ids.extent(1); ++k) sent += ids(t, k) >= 0 ? 1 : 0;
  }
  require_extent(plan.source, 0, sent, "expert_plan: source");
  const auto& offsets = plan.offsets;
  for (index_t e = 0; e <= experts; ++e) offsets(e) = 0;
  const index_t tokens = ids.extent(0), choices = ids.extent(1);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t k = 0; k < choices; ++k) offsets(ids(t, k) + 1) += ids(t, k) >= 0 ? 1 : 0;
  }
  for (index_t e = 0; e < experts; ++e) offsets(e + 1) += offsets(e);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t k = 0; k < choices; ++k) {
      plan.slot(t, k) = absent_index;
      if (ids(t, k) < 0) continue;
      const std::int32_t row = offsets(ids(t, k))++;
      plan.slot(t, k) = row;
      plan.source(row) = static_cast<std::int32_t>(t * choices + k);
    }
  }
  for (index_t e = experts; e > 0; --e) offsets(e) = offsets(e - 1);
  offsets(0) = 0;
}

}  // namespace deepseek
