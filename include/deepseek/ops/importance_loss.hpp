// SPDX-License-Identifier: Apache-2.0
// importance_loss: L = alpha CV^2(I), I_e = sum of the weights that expert e got, CV^2 the squared
// coefficient of variation (population variance over squared mean): E sum I_e^2 / (sum I_e)^2 - 1,
// and 0 where nothing was given out. weights [T, K], ids [T, K] int32 (-1: no expert).
// Backward adds dL/dw_{t,k} = 2 alpha E / S (I_e / S - sum I^2 / S^2), S = sum I, to dweights.
// Types: sums in double, in order. Errors: index_range, shape_mismatch, invalid_argument.
// Source: Shazeer et al. 2017, equations 6 and 7.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class W, class I>
struct importance_inputs {
  W weights;  // [T, K]
  I ids;      // [T, K]
};
template <class W, class I>
importance_inputs(W&&, I&&) -> importance_inputs<argument_t<W>, argument_t<I>>;

struct importance_loss_op {
  static constexpr std::string_view name = "importance_loss";

  template <class B, class W, class I>
  double operator()(const B& b, const importance_inputs<W, I>& in, index_t experts,
                    double alpha) const {
    const auto weights = as_const(as_view(in.weights));
    const auto ids = as_const(as_view(in.ids));
    check_spaces(b, weights, ids);
    check(weights, ids, experts, alpha);
    return ids.empty() ? 0.0
                       : importance_loss_impl(b, importance_inputs{weights, ids}, experts, alpha);
  }
  template <class W, class I>
  static void check(const W& weights, const I& ids, index_t experts, double alpha) {
    static_assert(W::rank == 2 && I::rank == 2,
                  "deepseek::importance_loss: pass weights[T, K] and ids[T, K]");
    require_same_shape(weights, ids, "importance_loss: weights");
    require_data(weights, "importance_loss: weights");
    require_data(ids, "importance_loss: ids");
    require(experts >= 1, error_code::invalid_argument, "importance_loss: experts is ", experts,
            "; pass a number >= 1");
    require(std::isfinite(alpha), error_code::invalid_argument, "importance_loss: alpha is ", alpha,
            "; pass a finite number");
  }
};

struct importance_loss_backward_op {
  static constexpr std::string_view name = "importance_loss_backward";

  template <class B, class W, class I, class DW>
  void operator()(const B& b, const importance_inputs<W, I>& in, DW&& dweights_in, index_t experts,
                  double alpha) const {
    const auto weights = as_const(as_view(in.weights));
    const auto ids = as_const(as_view(in.ids));
    const auto dweights = as_view(dweights_in);
    check_spaces(b, weights, ids, dweights);
    importance_loss_op::check(weights, ids, experts, alpha);
    require_same_shape(dweights, ids, "importance_loss_backward: dweights");
    require_data(dweights, "importance_loss_backward: dweights");
    if (ids.empty()) return;
    importance_loss_backward_impl(b, importance_inputs{weights, ids}, dweights, experts, alpha);
  }
};

namespace ops {
inline constexpr importance_loss_op importance_loss{};
inline constexpr importance_loss_backward_op importance_loss_backward{};
}  // namespace ops

}  // namespace deepseek
