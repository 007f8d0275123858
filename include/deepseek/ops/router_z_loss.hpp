// SPDX-License-Identifier: Apache-2.0
// router_z_loss: L = alpha / T sum_t (ln sum_e exp z_{t,e})^2 keeps a router's logits small.
// z [T, E]. Backward adds dL/dz = 2 alpha / T lse_t softmax(z_t) to dlogits [T, E].
// Types: sums in double, in order; dlogits rounded once. No tokens: 0. A row of -inf: 0.
// Errors: shape_mismatch, invalid_argument. Cost: T E exponentials.
// Source: Zoph et al. 2022 (ST-MoE), equation 5, with alpha = 1e-3.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct router_z_loss_op {
  static constexpr std::string_view name = "router_z_loss";

  template <class B, class Z>
  double operator()(const B& b, const Z& logits_in, double alpha) const {
    const auto logits = as_const(as_view(logits_in));
    check_spaces(b, logits);
    check(logits, alpha);
    return logits.empty() ? 0.0 : router_z_loss_impl(b, logits, alpha);
  }
  template <class Z>
  static void check(const Z& logits, double alpha) {
    static_assert(Z::rank == 2, "deepseek::router_z_loss: wrong rank; pass logits[T, E]");
    require_data(logits, "router_z_loss: logits");
    require(std::isfinite(alpha), error_code::invalid_argument, "router_z_loss: alpha is ", alpha,
            "; pass a finite number such as 1e-3");
  }
};

struct router_z_loss_backward_op {
  static constexpr std::string_view name = "router_z_loss_backward";

  template <class B, class Z, class DZ>
  void operator()(const B& b, const Z& logits_in, DZ&& dlogits_in, double alpha) const {
    const auto logits = as_const(as_view(logits_in));
    const auto dlogits = as_view(dlogits_in);
    check_spaces(b, logits, dlogits);
    router_z_loss_op::check(logits, alpha);
    require_same_shape(dlogits, logits, "router_z_loss_backward: dlogits");
    require_data(dlogits, "router_z_loss_backward: dlogits");
    if (!logits.empty()) router_z_loss_backward_impl(b, logits, dlogits, alpha);
  }
};

namespace ops {
inline constexpr router_z_loss_op router_z_loss{};
inline constexpr router_z_loss_backward_op router_z_loss_backward{};
}  // namespace ops

}  // namespace deepseek
