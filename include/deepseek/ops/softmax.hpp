// SPDX-License-Identifier: Apache-2.0
// softmax: y_i = e^(x_i - max) / sum_j e^(x_j - max), row by row; x[rows, n] y[rows, n].
// A row of only -inf gives zeros (nothing is visible); a NaN or +inf makes its row NaN. y may be x.
// Backward: dx = y * (dy - sum(dy * y)), written, from the output y; dx may be dy or y. A row of
// zeros has a gradient of zeros.
// Types may differ; sums in accumulate_t of the output, rounded once.
// Errors: shape_mismatch, invalid_argument (null data), aliasing (an output overlaps an input and
// is not the same view). Bits do not depend on threads.
// Cost: about 12 flops an element forward, 4 backward; each view read or written once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct softmax_op {
  static constexpr std::string_view name = "softmax";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    static_assert(x.rank == 2, "deepseek::softmax: wrong rank; pass x[rows, n], y[rows, n]");
    require_same_shape(y, x, "softmax: y");
    require_data(x, "softmax: x");
    require_data(y, "softmax: y");
    require_same_or_apart(x, y, "softmax: x");
    if (x.empty()) return;
    softmax_impl(b, x, y);
  }
};
namespace ops {
inline constexpr softmax_op softmax{};
}

struct softmax_backward_op {
  static constexpr std::string_view name = "softmax_backward";

  template <class B, class Y, class DY, class DX>
  void operator()(const B& b, const Y& y_in, const DY& dy_in, DX&& dx_in) const {
    const auto y = as_const(as_view(y_in));
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, y, dy, dx);
    static_assert(y.rank == 2, "deepseek::softmax_backward: wrong rank; pass y, dy, dx [rows, n]");
    require_same_shape(dy, y, "softmax_backward: dy");
    require_same_shape(dx, y, "softmax_backward: dx");
    require_data(y, "softmax_backward: y");
    require_data(dy, "softmax_backward: dy");
    require_data(dx, "softmax_backward: dx");
    require_same_or_apart(y, dx, "softmax_backward: y");
    require_same_or_apart(dy, dx, "softmax_backward: dy");
    if (y.empty()) return;
    softmax_backward_impl(b, y, dy, dx);
  }
};
namespace ops {
inline constexpr softmax_backward_op softmax_backward{};
}

}  // namespace deepseek
