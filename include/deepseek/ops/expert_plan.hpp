// SPDX-License-Identifier: Apache-2.0
// expert_plan: which row goes where when the T x K assignments of tokens to E experts are sorted by
// expert, a stable counting sort. ids [T, K] int32 -> all int32:
// An id of -1 is sent nowhere (an expert that had no room): R = the ids that are not -1.
//   offsets [E + 1]: rows offsets[e] .. offsets[e + 1] - 1 belong to expert e,
//   source [R]:      sorted row r is assignment source[r] = t K + k (its token is source[r] / K),
//   slot [T, K]:     where assignment (t, k) went: source[slot[t, k]] = t K + k; -1 for -1.
// Errors: index_range for an id outside -1 .. E-1 (names token and choice; nothing is written
// then), shape_mismatch (also where source has another length than R), invalid_argument, overflow
// (T K beyond int32). Cost: 2 T K + E steps. Source: Cormen, Leiserson, Rivest, Stein,
// "Introduction to Algorithms", 8.2.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

template <class Offsets, class Source, class Slot>
struct expert_plan_views {
  Offsets offsets;
  Source source;
  Slot slot;
};
template <class O, class So, class Sl>
expert_plan_views(O&&, So&&, Sl&&)
    -> expert_plan_views<argument_t<O>, argument_t<So>, argument_t<Sl>>;

struct expert_plan_op {
  static constexpr std::string_view name = "expert_plan";

  template <class B, class Ids, class O, class So, class Sl>
  void operator()(const B& b, const Ids& ids_in, index_t experts,
                  const expert_plan_views<O, So, Sl>& plan) const {
    const auto ids = as_const(as_view(ids_in));
    const auto offsets = as_view(plan.offsets);
    const auto source = as_view(plan.source);
    const auto slot = as_view(plan.slot);
    check_spaces(b, ids, offsets, source, slot);
    static_assert(ids.rank == 2 && offsets.rank == 1 && source.rank == 1,
                  "deepseek::expert_plan: wrong ranks; pass ids[T, K], offsets[E + 1], "
                  "source[R], slot[T, K]");
    require(experts >= 0, error_code::invalid_argument, "expert_plan: experts is ", experts,
            "; pass a number >= 0");
    require(ids.size() <= INT32_MAX, error_code::overflow, "expert_plan: ids", shape_of(ids),
            " has more than 2147483647 assignments; pass fewer tokens at once");
    require_extent(offsets, 0, experts + 1, "expert_plan: offsets");
    require_same_shape(slot, ids, "expert_plan: slot");
    require_data(ids, "expert_plan: ids");
    require_data(offsets, "expert_plan: offsets");
    require_data(source, "expert_plan: source");
    require_data(slot, "expert_plan: slot");
    using bundle = expert_plan_views<decltype(as_view(plan.offsets)),
                                     decltype(as_view(plan.source)), decltype(as_view(plan.slot))>;
    expert_plan_impl(b, ids, experts, bundle{offsets, source, slot});
  }
};
namespace ops {
inline constexpr expert_plan_op expert_plan{};
}

}  // namespace deepseek
