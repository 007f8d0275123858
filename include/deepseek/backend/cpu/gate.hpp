// SPDX-License-Identifier: Apache-2.0
// gate on the cpu: tokens in parallel over fixed chunks. Scores and bias all float or all double,
// contiguous rows and at most longest_gate_list active experts take the registers of
// kernels/gate.hpp, all else the row bodies of the reference.
#pragma once

#include "deepseek/backend/cpu/kernels/gate.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/reference/gate.hpp"

namespace deepseek {

inline constexpr index_t gate_chunk = 64;  // tokens per task
struct gate_memory {};                     // of kernels::scratch

template <class P, class Bias>
inline constexpr bool packed_gate = Packable<P>&& Packable<P, Bias>;
template <class P>
inline constexpr bool packed_gate<P, none> = Packable<P>;
template <class P, class Bias>
bool unit_gate(const P& scores, const Bias& bias) {
  if constexpr (std::is_same_v<Bias, none>) {
    return unit_rows(scores);
  } else {
    return unit_rows(scores, bias);
  }
}

template <class P, class Bias, class W, class I>
void gate_impl(const cpu& b, const P& scores, const Bias& bias, const gate_outputs<W, I>& out,
               const gate_rule& rule) {
  if (rule.choice == gate_choice::given) require_indices(out.ids, scores.extent(1), "gate: ids");
  using A = typename gate_choice_type<P, Bias>::type;
  const index_t numbers = scores.extent(1) + rule.groups;
  const bool in_registers =
      unit_gate(scores, bias) && out.ids.extent(1) <= kernels::longest_gate_list;
  parallel_rows(b, scores.extent(0), gate_chunk, [&](index_t first, index_t last) {
    A* const data = kernels::scratch<gate_memory, A>(static_cast<std::size_t>(
        kernels::gate_room(scores.extent(1), rule) * kernels::gate_together));
    if constexpr (packed_gate<P, Bias>) {
      if (in_registers) {
        for (index_t t = first; t < last; t += kernels::gate_together) {
          const std::pair some{t, std::min(last, t + kernels::gate_together)};
          kernels::gate_tokens(scores, bias, out, some, data, rule);
        }
        return;
      }
    }
    const view<A, host, dyn> memory(data, {numbers});
    for (index_t t = first; t < last; ++t) gate_row(scores, bias, out, t, memory, rule);
  });
}

template <class P, class W, class I, class DW, class DS>
void gate_backward_impl(const cpu& b, const gate_saved<P, W, I>& in, const DW& dweights,
                        const DS& dscores, const gate_rule& rule) {
  require_indices(in.ids, in.scores.extent(1), "gate_backward: ids", absent_index);
  parallel_rows(b, dscores.extent(0), gate_chunk, [&](index_t first, index_t last) {
    for (index_t t = first; t < last; ++t) {
      gate_backward_row(gate_saved{slice(in.scores, t), slice(in.weights, t), slice(in.ids, t)},
                        slice(dweights, t), slice(dscores, t), rule);
    }
  });
}

}  // namespace deepseek
