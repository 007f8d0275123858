// SPDX-License-Identifier: Apache-2.0
// expert_capacity: which of the T x K assignments of tokens to E experts find room when an expert
// takes at most C rows. ids [T, K] int32, scores s [T, E] -> sent [T, K]: the id, or -1 (no room).
// Returns the number sent. Who comes first:
//   by_position: all first choices in token order, then all second choices ... (GShard)
//   by_score:    the larger s_{t,ids(t,k)}; equal, NaN (last): by position
//   at_random:   the larger Philox word t K + k of (seed, step, site); equal: by position
// overflow::passes: what finds no room is dropped: the token passes by, its residual remains.
// overflow::rerouted: it goes, in order of position, to the expert with the largest s that has room
// and that the token does not meet already (equal: the lower expert); only if none is left is it
// dropped. expert_capacity_of: C = max(least, ceil(factor K T / E)). Types: comparisons in the
// scores' type. Bits do not depend on threads. Errors: index_range, shape_mismatch,
// invalid_argument. Cost: T K log(T K), and E (K + 1) for each that is rerouted.
// Sources: Lepikhin et al. 2020 (GShard), 2.2; Fedus et al. 2022; Rajbhandari et al. 2022
// (DeepSpeed-MoE: the factor counts K, random priority); DeepSeek-V2 2024, 2.2.4 (lowest scores).
#pragma once

#include "deepseek/ops/jitter.hpp"

#include <limits>

namespace deepseek {

enum class drop_order { by_position, by_score, at_random };
enum class overflow { passes, rerouted };

struct capacity_rule {
  index_t capacity = 1;  // rows an expert takes, >= 0
  drop_order order = drop_order::by_position;
  overflow then = overflow::passes;
  routing_draw draw = {};  // of at_random
};

// ceil(factor * choices * tokens / experts), at least `least`. invalid_argument for a factor that
// is not > 0 and finite, less than one expert, a negative number; overflow beyond 2^53 rows.
constexpr index_t expert_capacity_of(double factor, index_t assignments, index_t experts,
                                     index_t least = 0) {
  if (!(factor > 0 && factor <= std::numeric_limits<double>::max())) {
    fail(error_code::invalid_argument, "expert_capacity_of: factor is ", factor,
         "; pass a finite number > 0 such as 1.25, or no capacity at all");
  }
  if (experts < 1 || assignments < 0 || least < 0) {
    fail(error_code::invalid_argument, "expert_capacity_of: ", assignments, " assignments to ",
         experts, " experts, at least ", least,
         " each; pass >= 0 assignments, >= 1 experts and a least of >= 0");
  }
  const double exact = factor * static_cast<double>(assignments) / static_cast<double>(experts);
  if (!(exact < 0x1p53)) {
    fail(error_code::overflow, "expert_capacity_of: factor ", factor, " times ", assignments,
         " assignments to ", experts, " experts is ", exact, " rows; pass a smaller factor");
  }
  const auto whole = static_cast<index_t>(exact);
  const index_t up = static_cast<double>(whole) < exact ? whole + 1 : whole;
  return up > least ? up : least;
}

template <class P, class I>
struct capacity_inputs {
  P scores;  // [T, E]
  I ids;     // [T, K]
};
template <class P, class I>
capacity_inputs(P&&, I&&) -> capacity_inputs<argument_t<P>, argument_t<I>>;

struct expert_capacity_op {
  static constexpr std::string_view name = "expert_capacity";

  template <class B, class P, class I, class Sent>
  index_t operator()(const B& b, const capacity_inputs<P, I>& in, Sent&& sent_in,
                     const capacity_rule& rule) const {
    const auto scores = as_const(as_view(in.scores));
    const auto ids = as_const(as_view(in.ids));
    const auto sent = as_view(sent_in);
    check_spaces(b, scores, ids, sent);
    static_assert(scores.rank == 2 && ids.rank == 2 && sent.rank == 2,
                  "deepseek::expert_capacity: pass {scores[T, E], ids[T, K]} and sent[T, K]");
    require_extent(scores, 0, ids.extent(0), "expert_capacity: scores");
    require_same_shape(sent, ids, "expert_capacity: sent");
    require_data(scores, "expert_capacity: scores");
    require_data(ids, "expert_capacity: ids");
    require_data(sent, "expert_capacity: sent");
    require(rule.capacity >= 0, error_code::invalid_argument, "expert_capacity: capacity is ",
            rule.capacity, "; pass how many rows an expert takes, >= 0");
    return ids.empty() ? 0 : expert_capacity_impl(b, capacity_inputs{scores, ids}, sent, rule);
  }
};

namespace ops {
inline constexpr expert_capacity_op expert_capacity{};
}

}  // namespace deepseek
