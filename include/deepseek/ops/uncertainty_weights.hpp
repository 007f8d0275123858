// SPDX-License-Identifier: Apache-2.0
// uncertainty_weights: K losses of tasks joined by learned weights. s = log_variances [K]:
//   total = sum_k ( a_k e^(-s_k) losses_k + s_k / 2 ),   weights_k = a_k e^(-s_k),
//   dlog_variances_k += scale (1/2 - weights_k losses_k).
// a_k = 1 for a loss that is a negative log-likelihood of classes, 1/2 for a squared error:
// factors [K], or none for ones. The gradient of each loss is then taken times weights_k.
// losses are double; s, its gradient and weights any floating types. The total is in double.
// Errors: shape_mismatch, invalid_argument, nonfinite (a loss; nothing is written then).
// Cost: K exponentials. Source: Kendall, Gal, Cipolla 2018, equations 7 and 10.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class L, class S, class Factors>
struct task_inputs {
  L losses;         // [K]
  S log_variances;  // [K]
  Factors factors;  // [K], or none
};
template <class L, class S, class F>
task_inputs(L&&, S&&, F&&) -> task_inputs<argument_t<L>, argument_t<S>, argument_t<F>>;

template <class W, class DS>
struct task_outputs {
  W weights;          // [K], written
  DS dlog_variances;  // [K], added to
};
template <class W, class DS>
task_outputs(W&&, DS&&) -> task_outputs<argument_t<W>, argument_t<DS>>;

struct uncertainty_weights_op {
  static constexpr std::string_view name = "uncertainty_weights";

  template <class B, class L, class S, class F, class W, class DS>
  double operator()(const B& b, const task_inputs<L, S, F>& in, const task_outputs<W, DS>& out,
                    double scale = 1) const {
    const auto losses = as_const(as_view(in.losses));
    const auto s = as_const(as_view(in.log_variances));
    const auto factors = const_or_none(in.factors);
    const auto weights = as_view(out.weights);
    const auto ds = as_view(out.dlog_variances);
    check_spaces(b, losses, s, factors, weights, ds);
    static_assert(losses.rank == 1 && s.rank == 1,
                  "deepseek::uncertainty_weights: wrong ranks; pass losses, log_variances [K]");
    require_extent(s, 0, losses.extent(0), "uncertainty_weights: log_variances");
    require_extent(weights, 0, losses.extent(0), "uncertainty_weights: weights");
    require_extent(ds, 0, losses.extent(0), "uncertainty_weights: dlog_variances");
    if constexpr (is_view<std::remove_cvref_t<decltype(factors)>>) {
      require_extent(factors, 0, losses.extent(0), "uncertainty_weights: factors");
      require_data(factors, "uncertainty_weights: factors");
    }
    require_data(losses, "uncertainty_weights: losses");
    require_data(s, "uncertainty_weights: log_variances");
    require_data(weights, "uncertainty_weights: weights");
    require_data(ds, "uncertainty_weights: dlog_variances");
    require(std::isfinite(scale), error_code::invalid_argument, "uncertainty_weights: scale is ",
            scale, "; pass a finite number");
    if (losses.empty()) return 0;
    return uncertainty_weights_impl(b, task_inputs{losses, s, factors}, task_outputs{weights, ds},
                                    scale);
  }
};

namespace ops {
inline constexpr uncertainty_weights_op uncertainty_weights{};
}

}  // namespace deepseek
