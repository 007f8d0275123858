// SPDX-License-Identifier: Apache-2.0
// kl_divergence: how far softmax(logits) is from given weights p, the mean over rows of
//   KL = sum_j p_j (ln p_j - ln softmax(logits)_j), a term of p_j = 0 being 0.
// p, logits [rows, n]; logits may be -inf where p is 0. A row of zeros in p gives 0, whatever its
// logits. Returned in double. kl_divergence_gradient writes dlogits [rows, n] =
//   factor / rows (softmax(logits) sum_j p_j - p);  p is a constant; dlogits may be logits.
// Types may differ; sums in accumulate_t of logits (of dlogits), the mean in double over rows in
// order. Errors: shape_mismatch, invalid_argument (null data). Bits do not depend on threads.
// Cost: one pass each for the maximum, the exponentials, the result. Source: Kullback and Leibler
// 1951.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct kl_divergence_op {
  static constexpr std::string_view name = "kl_divergence";

  template <class B, class P, class L>
  double operator()(const B& b, const P& p_in, const L& logits_in) const {
    const auto p = as_const(as_view(p_in));
    const auto logits = as_const(as_view(logits_in));
    check_spaces(b, p, logits);
    static_assert(p.rank == 2, "deepseek::kl_divergence: wrong rank; pass p, logits [rows, n]");
    require_same_shape(logits, p, "kl_divergence: logits");
    require_data(p, "kl_divergence: p");
    require_data(logits, "kl_divergence: logits");
    return p.empty() ? 0.0 : kl_divergence_impl(b, p, logits);
  }
};

struct kl_divergence_gradient_op {
  static constexpr std::string_view name = "kl_divergence_gradient";

  template <class B, class P, class L, class DL>
  void operator()(const B& b, const P& p_in, const L& logits_in, DL&& dlogits_in,
                  double factor) const {
    const auto p = as_const(as_view(p_in));
    const auto logits = as_const(as_view(logits_in));
    const auto dlogits = as_view(dlogits_in);
    check_spaces(b, p, logits, dlogits);
    static_assert(
        p.rank == 2,
        "deepseek::kl_divergence_gradient: wrong rank; pass p, logits, dlogits [rows, n]");
    require_same_shape(logits, p, "kl_divergence_gradient: logits");
    require_same_shape(dlogits, p, "kl_divergence_gradient: dlogits");
    require_data(p, "kl_divergence_gradient: p");
    require_data(logits, "kl_divergence_gradient: logits");
    require_data(dlogits, "kl_divergence_gradient: dlogits");
    require(std::isfinite(factor), error_code::invalid_argument,
            "kl_divergence_gradient: factor is ", factor, "; pass a finite number");
    if (!p.empty()) kl_divergence_gradient_impl(b, p, logits, dlogits, factor);
  }
};

namespace ops {
inline constexpr kl_divergence_op kl_divergence{};
inline constexpr kl_divergence_gradient_op kl_divergence_gradient{};
}  // namespace ops

}  // namespace deepseek
