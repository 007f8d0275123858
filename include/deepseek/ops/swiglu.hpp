// SPDX-License-Identifier: Apache-2.0
// swiglu: y = silu(gate) * up, element by element; one shape of any rank and strides.
// Backward, with s = 1 / (1 + e^-gate): dgate = dy * up * s * (1 + gate * (1 - s)),
// dup = dy * gate * s; both written.
// With a limit L > 0: gate is first cut to at most L, up to -L .. L; where one is cut its gradient
// is 0 (at L itself it is not cut). 0: no limit.
// y may be gate or up; dgate and dup may be dy, gate or up, but not each other.
// Types may differ; arithmetic in accumulate_t of the (widest) output, rounded once.
// Errors: shape_mismatch, invalid_argument (null data, limit), aliasing (an output overlaps
// an input and is not the same view). Bits do not depend on threads. Cost:
// about 11 flops an element forward, 18 backward; bound by memory. Sources: Shazeer, GLU Variants
// Improve Transformer (2020), section 2; the limit as in DeepSeek's TileKernels.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class Gate, class Up>
struct swiglu_inputs {
  Gate gate;
  Up up;
};
template <class Gate, class Up>
swiglu_inputs(Gate&&, Up&&) -> swiglu_inputs<argument_t<Gate>, argument_t<Up>>;

// The limit of a swiglu as ops check it.
inline void require_limit(double limit, const char* op) {
  require(std::isfinite(limit) && limit >= 0, error_code::invalid_argument, op, ": limit is ",
          limit, "; pass a finite number > 0, or 0 for none");
}

struct swiglu_op {
  static constexpr std::string_view name = "swiglu";

  template <class B, class Gate, class Up, class Y>
  void operator()(const B& b, const Gate& gate_in, const Up& up_in, Y&& y_in,
                  double limit = 0) const {
    const auto gate = as_const(as_view(gate_in));
    const auto up = as_const(as_view(up_in));
    const auto y = as_view(y_in);
    check_spaces(b, gate, up, y);
    require_same_shape(up, gate, "swiglu: up");
    require_same_shape(y, gate, "swiglu: y");
    require_data(gate, "swiglu: gate");
    require_data(up, "swiglu: up");
    require_data(y, "swiglu: y");
    require_same_or_apart(gate, y, "swiglu: gate");
    require_same_or_apart(up, y, "swiglu: up");
    require_limit(limit, "swiglu");
    if (gate.empty()) return;
    swiglu_impl(b, swiglu_inputs{gate, up}, y, limit);
  }
};
namespace ops {
inline constexpr swiglu_op swiglu{};
}

template <class DGate, class DUp>
struct swiglu_gradients {
  DGate dgate;  // written
  DUp dup;      // written
};
template <class DGate, class DUp>
swiglu_gradients(DGate&&, DUp&&) -> swiglu_gradients<argument_t<DGate>, argument_t<DUp>>;

struct swiglu_backward_op {
  static constexpr std::string_view name = "swiglu_backward";

  template <class B, class In, class DY, class Out>
  void operator()(const B& b, const In& in, const DY& dy_in, const Out& out,
                  double limit = 0) const {
    const swiglu_inputs views{as_const(as_view(in.gate)), as_const(as_view(in.up))};
    const auto dy = as_const(as_view(dy_in));
    const swiglu_gradients gradients{as_view(out.dgate), as_view(out.dup)};
    check_spaces(b, views.gate, views.up, dy, gradients.dgate, gradients.dup);
    require_same_shape(views.up, views.gate, "swiglu_backward: up");
    require_same_shape(dy, views.gate, "swiglu_backward: dy");
    require_same_shape(gradients.dgate, views.gate, "swiglu_backward: dgate");
    require_same_shape(gradients.dup, views.gate, "swiglu_backward: dup");
    require_data(views.gate, "swiglu_backward: gate");
    require_data(views.up, "swiglu_backward: up");
    require_data(dy, "swiglu_backward: dy");
    require_data(gradients.dgate, "swiglu_backward: dgate");
    require_data(gradients.dup, "swiglu_backward: dup");
    const auto require_place = [&](const auto& d) {
      require_same_or_apart(views.gate, d, "swiglu_backward: gate");
      require_same_or_apart(views.up, d, "swiglu_backward: up");
      require_same_or_apart(dy, d, "swiglu_backward: dy");
    };
    require_place(gradients.dgate);
    require_place(gradients.dup);
    require_apart(gradients.dgate, gradients.dup, "swiglu_backward: dgate");
    require_limit(limit, "swiglu_backward");
    if (views.gate.empty()) return;
    swiglu_backward_impl(b, views, dy, gradients, limit);
  }
};
namespace ops {
inline constexpr swiglu_backward_op swiglu_backward{};
}

}  // namespace deepseek
