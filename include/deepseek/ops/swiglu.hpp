// SPDX-License-Identifier: Apache-2.0
// swiglu: y = silu(gate) * up, element by element; one shape of any rank and strides.
// Backward, with s = 1 / (1 + e^-gate): dgate = dy * up * s * (1 + gate * (1 - s)),
// dup = dy * gate * s; both written.
// y may be gate or up; dgate and dup may be dy, gate or up, but not each other.
// Types may differ; arithmetic in accumulate_t of the (widest) output, rounded once.
// Errors: shape_mismatch, invalid_argument (null data). Bits do not depend on threads.
// Cost: about 11 flops an element forward, 18 backward; bound by memory.
// Source: Shazeer, GLU Variants Improve Transformer (2020), section 2.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct swiglu_op {
  static constexpr std::string_view name = "swiglu";

  template <class B, class Gate, class Up, class Y>
  void operator()(const B& b, const Gate& gate_in, const Up& up_in, Y&& y_in) const {
    const auto gate = as_const(as_view(gate_in));
    const auto up = as_const(as_view(up_in));
    const auto y = as_view(y_in);
    check_spaces(b, gate, up, y);
    require_same_shape(up, gate, "swiglu: up");
    require_same_shape(y, gate, "swiglu: y");
    require_data(gate, "swiglu: gate");
    require_data(up, "swiglu: up");
    require_data(y, "swiglu: y");
    if (gate.empty()) return;
    swiglu_impl(b, gate, up, y);
  }
};
namespace ops {
inline constexpr swiglu_op swiglu{};
}

template <class Gate, class Up>
struct swiglu_inputs {
  Gate gate;
  Up up;
};
template <class Gate, class Up>
swiglu_inputs(Gate&&, Up&&) -> swiglu_inputs<argument_t<Gate>, argument_t<Up>>;

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
  void operator()(const B& b, const In& in, const DY& dy_in, const Out& out) const {
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
    if (views.gate.empty()) return;
    swiglu_backward_impl(b, views, dy, gradients);
  }
};
namespace ops {
inline constexpr swiglu_backward_op swiglu_backward{};
}

}  // namespace deepseek
