// SPDX-License-Identifier: Apache-2.0
// rms_norm: y = w * x * r with r = 1 / sqrt(mean(x^2) + eps), row by row.
// x[rows, dim] w[dim] y[rows, dim]; y may be x. w (and dw) may be none{}: all ones.
// Backward, with xhat = x * r: dx = r * (dy * w - xhat * mean(dy * w * xhat)), written (dx may be
// dy); dw += sum over rows of dy * xhat. r is computed again from x: nothing is saved.
// Types may differ; sums and statistics in accumulate_t of the (widest) output, rounded once.
// eps is added to the mean; a row of zeros with eps = 0 gives NaN. A row whose squares overflow
// (float: |x| > 1.8e19) is summed once more, scaled, and gives right values for all finite x. One
// infinity in a row makes NaN in its place and zeros elsewhere, a NaN the whole row NaN.
// Errors: shape_mismatch, invalid_argument (null data, eps), aliasing (an output overlaps
// an input and is not the same view). Bits do not depend on threads.
// Cost: 4 flops an element forward, 11 backward; each view read or written once.
// Source: Zhang and Sennrich, Root Mean Square Layer Normalization (2019), section 3.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

struct rms_norm_op {
  static constexpr std::string_view name = "rms_norm";

  template <class B, class X, class W, class Y>
  void operator()(const B& b, const X& x_in, const W& w_in, Y&& y_in, double eps) const {
    if constexpr (std::is_same_v<W, none>) {
      const scope freed(b.workspace());
      return (*this)(b, x_in, filled<decltype(as_view(y_in))>(b, as_view(x_in), 1), y_in, eps);
    } else {
      run(b, as_const(as_view(x_in)), as_const(as_view(w_in)), as_view(y_in), eps);
    }
  }

  // A row [dim] of one number in scratch memory, as wide as x and of the type of Y.
  template <class Y, class B, class X>
  static auto filled(const B& b, const X& x, double value) {
    const auto row = b.workspace().template make<typename Y::value_type, dyn>(x.extent(1));
    ops::fill(b, value, row);
    return row;
  }

 private:
  template <class B, class X, class W, class Y>
  static void run(const B& b, const X& x, const W& w, const Y& y, double eps) {
    check_spaces(b, x, w, y);
    static_assert(X::rank == 2 && W::rank == 1,
                  "deepseek::rms_norm: wrong ranks; pass x[rows, dim], w[dim], y[rows, dim]");
    require_extent(w, 0, x.extent(1), "rms_norm: w");
    require_same_shape(y, x, "rms_norm: y");
    require_data(x, "rms_norm: x");
    require_data(w, "rms_norm: w");
    require_data(y, "rms_norm: y");
    require_same_or_apart(x, y, "rms_norm: x");
    require_epsilon(eps, "rms_norm");
    if (x.empty()) return;
    rms_norm_impl(b, x, w, y, eps);
  }
};
namespace ops {
inline constexpr rms_norm_op rms_norm{};
}

template <class X, class W>
struct rms_norm_inputs {
  X x;  // [rows, dim]
  W w;  // [dim]
};
template <class X, class W>
rms_norm_inputs(X&&, W&&) -> rms_norm_inputs<argument_t<X>, argument_t<W>>;

template <class DX, class DW>
struct rms_norm_gradients {
  DX dx;  // [rows, dim], written
  DW dw;  // [dim], added to
};
template <class DX, class DW>
rms_norm_gradients(DX&&, DW&&) -> rms_norm_gradients<argument_t<DX>, argument_t<DW>>;

struct rms_norm_backward_op {
  static constexpr std::string_view name = "rms_norm_backward";

  template <class B, class In, class DY, class Out>
  void operator()(const B& b, const In& in, const DY& dy_in, const Out& out, double eps) const {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(in.w)>, none>) {
      const scope freed(b.workspace());
      using DX = decltype(as_view(out.dx));
      const auto x = as_view(in.x);
      const auto w = rms_norm_op::filled<DX>(b, x, 1), dw = rms_norm_op::filled<DX>(b, x, 0);
      (*this)(b, rms_norm_inputs{x, w}, dy_in, rms_norm_gradients{as_view(out.dx), dw}, eps);
    } else {
      run(b, rms_norm_inputs{as_const(as_view(in.x)), as_const(as_view(in.w))},
          as_const(as_view(dy_in)), rms_norm_gradients{as_view(out.dx), as_view(out.dw)}, eps);
    }
  }

 private:
  template <class B, class In, class DY, class Out>
  static void run(const B& b, const In& views, const DY& dy, const Out& gradients, double eps) {
    check_spaces(b, views.x, views.w, dy, gradients.dx, gradients.dw);
    static_assert(decltype(views.x)::rank == 2 && decltype(views.w)::rank == 1 &&
                      decltype(gradients.dw)::rank == 1,
                  "deepseek::rms_norm_backward: wrong ranks; pass x, dy, dx [rows, dim], w, dw "
                  "[dim]");
    require_extent(views.w, 0, views.x.extent(1), "rms_norm_backward: w");
    require_same_shape(dy, views.x, "rms_norm_backward: dy");
    require_same_shape(gradients.dx, views.x, "rms_norm_backward: dx");
    require_same_shape(gradients.dw, views.w, "rms_norm_backward: dw");
    require_data(views.x, "rms_norm_backward: x");
    require_data(views.w, "rms_norm_backward: w");
    require_data(dy, "rms_norm_backward: dy");
    require_data(gradients.dx, "rms_norm_backward: dx");
    require_same_or_apart(dy, gradients.dx, "rms_norm_backward: dy");
    require_data(gradients.dw, "rms_norm_backward: dw");
    require_epsilon(eps, "rms_norm_backward");
    if (views.x.empty()) return;
    rms_norm_backward_impl(b, views, dy, gradients, eps);
  }
};
namespace ops {
inline constexpr rms_norm_backward_op rms_norm_backward{};
}

}  // namespace deepseek
