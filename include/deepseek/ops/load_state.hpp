// SPDX-License-Identifier: Apache-2.0
// What a router keeps beside its weights, moved after a step by how often each expert was chosen.
// counts [E], load [E], bias [E].
// move_load: load_e <- decay load_e + (1 - decay) counts_e / sum counts, decay 0 where the load is
// all zeros (the first step sets it). Without counts nothing moves.
// move_bias: bias_e <- bias_e + step sign(mean counts - counts_e).
// Types: any floating types, arithmetic in double, rounded once. Errors: shape_mismatch,
// invalid_argument (decay outside 0 .. 1, a step that is not finite).
// Source: Wang et al. 2024, Auxiliary-Loss-Free Load Balancing, algorithm 1 (move_bias).
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

namespace load_state_checks {
template <class B, class Counts, class State>
void require_both(const B& b, const Counts& counts, const State& state, const char* of_counts,
                  const char* of_state) {
  check_spaces(b, counts, state);
  static_assert(Counts::rank == 1 && State::rank == 1,
                "deepseek::load_state: wrong ranks; pass counts[E] and load[E] or bias[E]");
  require_extent(counts, 0, state.extent(0), of_counts);
  require_data(counts, of_counts);
  require_data(state, of_state);
}
}  // namespace load_state_checks

struct move_load_op {
  static constexpr std::string_view name = "move_load";

  template <class B, class Counts, class Load>
  void operator()(const B& b, const Counts& counts_in, double decay, Load&& load_in) const {
    const auto counts = as_const(as_view(counts_in));
    const auto load = as_view(load_in);
    load_state_checks::require_both(b, counts, load, "move_load: counts", "move_load: load");
    require(decay >= 0 && decay <= 1, error_code::invalid_argument, "move_load: decay is ", decay,
            "; pass a number from 0 to 1");
    if (!load.empty()) move_load_impl(b, counts, decay, load);
  }
};

struct move_bias_op {
  static constexpr std::string_view name = "move_bias";

  template <class B, class Counts, class Bias>
  void operator()(const B& b, const Counts& counts_in, double step, Bias&& bias_in) const {
    const auto counts = as_const(as_view(counts_in));
    const auto bias = as_view(bias_in);
    load_state_checks::require_both(b, counts, bias, "move_bias: counts", "move_bias: bias");
    require(std::isfinite(step), error_code::invalid_argument, "move_bias: step is ", step,
            "; pass a finite number");
    if (!bias.empty()) move_bias_impl(b, counts, step, bias);
  }
};

namespace ops {
inline constexpr move_load_op move_load{};
inline constexpr move_bias_op move_bias{};
}  // namespace ops

}  // namespace deepseek
