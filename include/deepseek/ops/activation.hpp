// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu, sigmoid: y = f(x), element by element; x and y have one shape of any rank and
// strides.
//   silu(x) = x / (1 + e^-x);  gelu(x) = x * Phi(x), exact (erf);  relu(x) = max(x, 0)
//   sigmoid(x) = 1 / (1 + e^-x)
// Backward: dx = f'(x) * dy, written; relu'(0) = 0. y may be x, dx may be dy.
// Each is one type of activation kind: a new one adds a type here and its value and slope in
// backend/rows/activation.hpp.
// Types may differ; arithmetic in accumulate_t of the output, rounded once. NaN stays NaN;
// infinities give the limits.
// Errors: shape_mismatch, invalid_argument (null data), aliasing (y overlaps x, or dx dy, and
// is not the same view). Bits do not depend on threads.
// Cost: about 10 flops an element (silu, sigmoid), 20 (gelu), 1 (relu); bound by memory.
// Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct silu_kind {
  static constexpr std::string_view name = "silu", backward_name = "silu_backward";
};
struct gelu_kind {
  static constexpr std::string_view name = "gelu", backward_name = "gelu_backward";
};
struct sigmoid_kind {
  static constexpr std::string_view name = "sigmoid", backward_name = "sigmoid_backward";
};
struct relu_kind {
  static constexpr std::string_view name = "relu", backward_name = "relu_backward";
};

template <class Kind>
struct activation_op {
  static constexpr std::string_view name = Kind::name;

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    const std::string op(name);
    require_same_shape(y, x, (op + ": y").c_str());
    require_data(x, (op + ": x").c_str());
    require_data(y, (op + ": y").c_str());
    require_same_or_apart(x, y, (op + ": x").c_str());
    if (x.empty()) return;
    activation_impl(b, Kind{}, x, y);
  }
};
namespace ops {
inline constexpr activation_op<silu_kind> silu{};
inline constexpr activation_op<gelu_kind> gelu{};
inline constexpr activation_op<relu_kind> relu{};
inline constexpr activation_op<sigmoid_kind> sigmoid{};
}  // namespace ops

template <class Kind>
struct activation_backward_op {
  static constexpr std::string_view name = Kind::backward_name;

  template <class B, class X, class DY, class DX>
  void operator()(const B& b, const X& x_in, const DY& dy_in, DX&& dx_in) const {
    const auto x = as_const(as_view(x_in));
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, x, dy, dx);
    const std::string op(name);
    require_same_shape(dy, x, (op + ": dy").c_str());
    require_same_shape(dx, x, (op + ": dx").c_str());
    require_data(x, (op + ": x").c_str());
    require_data(dy, (op + ": dy").c_str());
    require_data(dx, (op + ": dx").c_str());
    require_same_or_apart(dy, dx, (op + ": dy").c_str());
    if (x.empty()) return;
    activation_backward_impl(b, Kind{}, x, dy, dx);
  }
};
namespace ops {
inline constexpr activation_backward_op<silu_kind> silu_backward{};
inline constexpr activation_backward_op<gelu_kind> gelu_backward{};
inline constexpr activation_backward_op<relu_kind> relu_backward{};
inline constexpr activation_backward_op<sigmoid_kind> sigmoid_backward{};
}  // namespace ops

}  // namespace deepseek
