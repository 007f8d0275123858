// SPDX-License-Identifier: Apache-2.0
// gate on the reference backend: the row bodies of backend/rows, token by token; see ops/gate.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/gate.hpp"

#include <type_traits>

namespace deepseek {

// The type in which s + bias is compared.
template <class S, class Bias>
struct gate_choice_type {
  using type = std::common_type_t<accumulate_t<typename S::value_type>,
                                  accumulate_t<typename Bias::value_type>>;
};
template <class S>
struct gate_choice_type<S, none> {
  using type = accumulate_t<typename S::value_type>;
};

template <class P, class Bias, class Out, class C>
void gate_row(const P& scores, const Bias& bias, const Out& out, index_t t, const C& memory,
              const gate_rule& rule) {
  const auto s = slice(scores, t);
  gate_score_row(s, rule.score);
  if (rule.choice == gate_choice::by_score) {
    gate_choose_row(s, bias, slice(out.ids, t), memory, rule);
  } else if (rule.choice == gate_choice::all) {
    gate_all_row(slice(out.ids, t));
  }
  gate_weights_row(s, slice(out.weights, t), slice(out.ids, t), rule);
}

template <class P, class Bias, class W, class I>
void gate_impl(const reference& b, const P& scores, const Bias& bias, const gate_outputs<W, I>& out,
               const gate_rule& rule) {
  if (rule.choice == gate_choice::given) require_indices(out.ids, scores.extent(1), "gate: ids");
  using A = typename gate_choice_type<P, Bias>::type;
  const scope freed(b.workspace());
  const auto memory = b.workspace().template make<A, dyn>(scores.extent(1) + rule.groups);
  for (index_t t = 0; t < scores.extent(0); ++t) gate_row(scores, bias, out, t, memory, rule);
}

template <class P, class W, class I>
void gate_weights_impl(const reference&, const P& scores, const gate_outputs<W, I>& out,
                       const gate_rule& rule) {
  require_indices(out.ids, scores.extent(1), "gate_weights: ids", absent_index);
  for (index_t t = 0; t < scores.extent(0); ++t) {
    gate_weights_row(slice(scores, t), slice(out.weights, t), slice(out.ids, t), rule);
  }
}

template <class P, class W, class I, class DW, class DS>
void gate_backward_impl(const reference&, const gate_saved<P, W, I>& in, const DW& dweights,
                        const DS& dscores, const gate_rule& rule) {
  require_indices(in.ids, in.scores.extent(1), "gate_backward: ids", absent_index);
  for (index_t t = 0; t < dscores.extent(0); ++t) {
    gate_backward_row(gate_saved{slice(in.scores, t), slice(in.weights, t), slice(in.ids, t)},
                      slice(dweights, t), slice(dscores, t), rule);
  }
}

}  // namespace deepseek
