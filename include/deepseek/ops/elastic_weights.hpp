// SPDX-License-Identifier: Apache-2.0
// What keeps weights near where an earlier task left them, tensor by tensor, any strides:
//   elastic_penalty   = lambda / 2 sum_e fisher_e (w_e - anchor_e)^2, as double
//   elastic_gradient: dw_e += factor lambda fisher_e (w_e - anchor_e)
//   fisher_update:    fisher_e = decay fisher_e + factor g_e^2
// The Fisher information of a weight is the mean square of d ln p / d w over samples; decay below 1
// joins tasks (online form). w, anchor, fisher, g: one shape, floating types that may differ;
// elements in accumulate_t of what is written, the penalty's sum in double in row-major order.
// Errors: shape_mismatch, invalid_argument (lambda or decay below 0, not finite, null data).
// Bits do not depend on threads. Cost: 3 to 5 flops an element. Source: Kirkpatrick et al. 2017
// (elastic weight consolidation), equation 3; Schwarz et al. 2018 (online form).
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class W, class Anchor, class Fisher>
struct elastic_inputs {
  W w;
  Anchor anchor;
  Fisher fisher;
};
template <class W, class Anchor, class Fisher>
elastic_inputs(W&&, Anchor&&, Fisher&&)
    -> elastic_inputs<argument_t<W>, argument_t<Anchor>, argument_t<Fisher>>;

struct elastic_spec {
  double lambda = 1;  // >= 0
  double factor = 1;  // of the gradient
};

namespace detail {

template <class B, class In>
auto elastic_views(const B& b, const In& in, const elastic_spec& spec) {
  const auto w = as_const(as_view(in.w)), anchor = as_const(as_view(in.anchor));
  const auto fisher = as_const(as_view(in.fisher));
  check_spaces(b, w, anchor, fisher);
  require_same_shape(anchor, w, "elastic_weights: anchor");
  require_same_shape(fisher, w, "elastic_weights: fisher");
  require_data(w, "elastic_weights: w");
  require_data(anchor, "elastic_weights: anchor");
  require_data(fisher, "elastic_weights: fisher");
  require(std::isfinite(spec.lambda) && spec.lambda >= 0 && std::isfinite(spec.factor),
          error_code::invalid_argument, "elastic_weights: lambda is ", spec.lambda, ", factor ",
          spec.factor, "; pass a finite lambda >= 0 and a finite factor");
  return elastic_inputs{w, anchor, fisher};
}

}  // namespace detail

struct elastic_penalty_op {
  static constexpr std::string_view name = "elastic_penalty";

  template <class B, class W, class A, class F>
  double operator()(const B& b, const elastic_inputs<W, A, F>& in, double lambda = 1) const {
    const auto views = detail::elastic_views(b, in, {lambda, 1});
    return views.w.empty() ? 0.0 : elastic_penalty_impl(b, views, lambda);
  }
};

struct elastic_gradient_op {
  static constexpr std::string_view name = "elastic_gradient";

  template <class B, class W, class A, class F, class DW>
  void operator()(const B& b, const elastic_inputs<W, A, F>& in, DW&& dw_in,
                  const elastic_spec& spec = {}) const {
    const auto views = detail::elastic_views(b, in, spec);
    const auto dw = as_view(dw_in);
    check_spaces(b, dw);
    require_same_shape(dw, views.w, "elastic_gradient: dw");
    require_data(dw, "elastic_gradient: dw");
    if (!dw.empty()) elastic_gradient_impl(b, views, dw, spec);
  }
};

struct fisher_spec {
  double decay = 1, factor = 1;  // both >= 0
};
struct fisher_update_op {
  static constexpr std::string_view name = "fisher_update";

  template <class B, class G, class F>
  void operator()(const B& b, const G& g_in, F&& fisher_in, const fisher_spec& spec = {}) const {
    const auto g = as_const(as_view(g_in));
    const auto fisher = as_view(fisher_in);
    check_spaces(b, g, fisher);
    require_same_shape(g, fisher, "fisher_update: g");
    require_data(g, "fisher_update: g");
    require_data(fisher, "fisher_update: fisher");
    require(std::isfinite(spec.decay) && spec.decay >= 0 && std::isfinite(spec.factor) &&
                spec.factor >= 0,
            error_code::invalid_argument, "fisher_update: decay is ", spec.decay, ", factor ",
            spec.factor, "; pass finite numbers >= 0");
    if (!fisher.empty()) fisher_update_impl(b, g, fisher, spec);
  }
};

namespace ops {
inline constexpr elastic_penalty_op elastic_penalty{};
inline constexpr elastic_gradient_op elastic_gradient{};
inline constexpr fisher_update_op fisher_update{};
}  // namespace ops

}  // namespace deepseek
