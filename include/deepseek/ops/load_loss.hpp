// SPDX-License-Identifier: Apache-2.0
// load_loss: L = alpha CV^2(Load), Load_e = sum_t Phi((z_{t,e} - kth_{t,e}) / softplus(r_{t,e})):
// a smooth count of the tokens that choose expert e among their K when the noise is drawn anew.
// z clean logits, r raw deviations, h noisy logits, all [T, E]; kth: the K-th largest of h_t
// without h_{t,e}; K = E: no loss, every expert is chosen. Phi: the standard normal distribution
// function. Backward adds to dz, dr and, through kth, to dh; which element is the K-th is constant.
// Types: double, in order; each gradient rounded once. Equal h: the lower expert is the larger.
// Errors: shape_mismatch, invalid_argument (K outside 1 .. E). Cost: T E (K + 1) comparisons.
// Source: Shazeer et al. 2017, appendix A.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

// The three arrays, or the three gradients.
template <class Z, class R, class H>
struct load_views {
  Z logits;
  R deviation;
  H noisy;
};
template <class Z, class R, class H>
load_views(Z&&, R&&, H&&) -> load_views<argument_t<Z>, argument_t<R>, argument_t<H>>;

struct load_loss_op {
  static constexpr std::string_view name = "load_loss";

  template <class B, class Z, class R, class H>
  double operator()(const B& b, const load_views<Z, R, H>& in, index_t active, double alpha) const {
    const auto views = checked(b, in, active, alpha);
    return views.logits.empty() || active == views.logits.extent(1)
               ? 0.0
               : load_loss_impl(b, views, active, alpha);
  }
  template <class B, class Z, class R, class H>
  static auto checked(const B& b, const load_views<Z, R, H>& in, index_t active, double alpha) {
    const auto z = as_const(as_view(in.logits));
    const auto r = as_const(as_view(in.deviation));
    const auto h = as_const(as_view(in.noisy));
    check_spaces(b, z, r, h);
    static_assert(z.rank == 2, "deepseek::load_loss: wrong rank; pass three arrays [T, E]");
    require_same_shape(r, z, "load_loss: deviation");
    require_same_shape(h, z, "load_loss: noisy");
    require_data(z, "load_loss: logits");
    require_data(r, "load_loss: deviation");
    require_data(h, "load_loss: noisy");
    require(active >= 1 && active <= z.extent(1), error_code::invalid_argument,
            "load_loss: ", active, " active experts of ", z.extent(1), "; pass a number from 1 to ",
            z.extent(1));
    require(std::isfinite(alpha), error_code::invalid_argument, "load_loss: alpha is ", alpha,
            "; pass a finite number");
    return load_views{z, r, h};
  }
};

struct load_loss_backward_op {
  static constexpr std::string_view name = "load_loss_backward";

  template <class B, class In, class DZ, class DR, class DH>
  void operator()(const B& b, const In& in, const load_views<DZ, DR, DH>& out, index_t active,
                  double alpha) const {
    const auto views = load_loss_op::checked(b, in, active, alpha);
    const auto dz = as_view(out.logits);
    const auto dr = as_view(out.deviation);
    const auto dh = as_view(out.noisy);
    check_spaces(b, dz, dr, dh);
    require_same_shape(dz, views.logits, "load_loss_backward: dlogits");
    require_same_shape(dr, views.logits, "load_loss_backward: ddeviation");
    require_same_shape(dh, views.logits, "load_loss_backward: dnoisy");
    require_data(dz, "load_loss_backward: dlogits");
    require_data(dr, "load_loss_backward: ddeviation");
    require_data(dh, "load_loss_backward: dnoisy");
    if (views.logits.empty() || active == views.logits.extent(1)) return;
    load_loss_backward_impl(b, views, load_views{dz, dr, dh}, active, alpha);
  }
};

namespace ops {
inline constexpr load_loss_op load_loss{};
inline constexpr load_loss_backward_op load_loss_backward{};
}  // namespace ops

}  // namespace deepseek
