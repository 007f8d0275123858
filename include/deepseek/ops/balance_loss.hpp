// SPDX-License-Identifier: Apache-2.0
// Expert-level balance loss: L = alpha sum_i f_i P_i, f_i = E / (K T) count_i (a constant for the
// gradient), P_i = (1 / T) sum_t s_{t,i}. Shapes: scores s [T, E] (probabilities), offsets [E + 1]
// int32 of the experts' rows (count_i = offsets[i+1] - offsets[i], K T rows in all).
// balance_loss returns L; balance_loss_gradient writes dscores [T, E] = scale alpha f_i / T.
// expert_load adds count_i to load [E]. Source: DeepSeekMoE 2024, section 3.3; fixed order.
#pragma once

#include "deepseek/core/backend.hpp"

namespace deepseek {

struct balance_loss_op {
  static constexpr std::string_view name = "balance_loss";

  template <class B, class P, class O>
  double operator()(const B& b, const P& scores_in, const O& offsets_in, double alpha) const {
    const auto scores = as_const(as_view(scores_in));
    const auto offsets = as_const(as_view(offsets_in));
    check_spaces(b, scores, offsets);
    check(scores, offsets);
    return scores.empty() ? 0.0 : alpha * balance_loss_impl(b, scores, offsets);
  }
  template <class P, class O>
  static void check(const P& scores, const O& offsets) {
    static_assert(P::rank == 2 && O::rank == 1,
                  "deepseek::balance_loss: pass scores[T, E] and offsets[E + 1]");
    require_extent(offsets, 0, scores.extent(1) + 1, "balance_loss: offsets");
    require_data(scores, "balance_loss: scores");
    require_data(offsets, "balance_loss: offsets");
  }
};

struct balance_loss_gradient_op {
  static constexpr std::string_view name = "balance_loss_gradient";

  template <class B, class O, class DS>
  void operator()(const B& b, const O& offsets_in, DS&& dscores_in, double alpha_scale) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto dscores = as_view(dscores_in);
    check_spaces(b, offsets, dscores);
    balance_loss_op::check(dscores, offsets);
    if (!dscores.empty()) balance_loss_gradient_impl(b, offsets, dscores, alpha_scale);
  }
};

struct expert_load_op {
  static constexpr std::string_view name = "expert_load";

  template <class B, class O, class L>
  void operator()(const B& b, const O& offsets_in, L&& load_in) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto load = as_view(load_in);
    check_spaces(b, offsets, load);
    require_extent(offsets, 0, load.extent(0) + 1, "expert_load: offsets");
    require_data(offsets, "expert_load: offsets");
    require_data(load, "expert_load: load");
    expert_load_impl(b, offsets, load);
  }
};

namespace ops {
inline constexpr balance_loss_op balance_loss{};
inline constexpr balance_loss_gradient_op balance_loss_gradient{};
inline constexpr expert_load_op expert_load{};
}  // namespace ops

}  // namespace deepseek
