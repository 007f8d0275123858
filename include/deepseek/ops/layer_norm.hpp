// SPDX-License-Identifier: Apache-2.0
// layer_norm: y = w * (x - mean) * r + bias with r = 1 / sqrt(variance + eps), row by row; the
// variance is the biased one (divided by dim).
// x[rows, dim] w[dim] bias[dim] y[rows, dim]; y may be x.
// Backward, with xhat = (x - mean) * r and g = dy * w: dx = r * (g - mean(g) - xhat * mean(g *
// xhat)), written (dx may be dy); dw += sum of dy * xhat, dbias += sum of dy over rows.
// Types may differ; sums and statistics in accumulate_t of the (widest) output, rounded once. A row
// whose sum or squares overflow (float: |x| > 1.8e19) is summed once more, scaled, and gives right
// values where every x - mean is finite. An infinity or NaN makes its row NaN.
// Errors: shape_mismatch, invalid_argument (null data, eps), aliasing (an output overlaps
// an input and is not the same view). Bits do not depend on threads.
// Cost: 7 flops an element forward, 16 backward; each view read or written once.
// Source: Ba, Kiros, Hinton, Layer Normalization (2016), section 3.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class W, class Bias>
struct layer_norm_affine {
  W w;        // [dim]
  Bias bias;  // [dim]
};
template <class W, class Bias>
layer_norm_affine(W&&, Bias&&) -> layer_norm_affine<argument_t<W>, argument_t<Bias>>;

struct layer_norm_op {
  static constexpr std::string_view name = "layer_norm";

  template <class B, class X, class Affine, class Y>
  void operator()(const B& b, const X& x_in, const Affine& affine, Y&& y_in, double eps) const {
    const auto x = as_const(as_view(x_in));
    const layer_norm_affine views{as_const(as_view(affine.w)), as_const(as_view(affine.bias))};
    const auto y = as_view(y_in);
    check_spaces(b, x, views.w, views.bias, y);
    static_assert(x.rank == 2 && views.w.rank == 1 && views.bias.rank == 1,
                  "deepseek::layer_norm: wrong ranks; pass x, y [rows, dim], w, bias [dim]");
    require_extent(views.w, 0, x.extent(1), "layer_norm: w");
    require_extent(views.bias, 0, x.extent(1), "layer_norm: bias");
    require_same_shape(y, x, "layer_norm: y");
    require_data(x, "layer_norm: x");
    require_data(views.w, "layer_norm: w");
    require_data(views.bias, "layer_norm: bias");
    require_data(y, "layer_norm: y");
    require_same_or_apart(x, y, "layer_norm: x");
    require_epsilon(eps, "layer_norm");
    if (x.empty()) return;
    layer_norm_impl(b, x, views, y, eps);
  }
};
namespace ops {
inline constexpr layer_norm_op layer_norm{};
}

template <class X, class W>
struct layer_norm_inputs {
  X x;  // [rows, dim]
  W w;  // [dim]
};
template <class X, class W>
layer_norm_inputs(X&&, W&&) -> layer_norm_inputs<argument_t<X>, argument_t<W>>;

template <class DX, class DW, class DBias>
struct layer_norm_gradients {
  DX dx;        // [rows, dim], written
  DW dw;        // [dim], added to
  DBias dbias;  // [dim], added to
};
template <class DX, class DW, class DBias>
layer_norm_gradients(DX&&, DW&&, DBias&&)
    -> layer_norm_gradients<argument_t<DX>, argument_t<DW>, argument_t<DBias>>;

struct layer_norm_backward_op {
  static constexpr std::string_view name = "layer_norm_backward";

  template <class B, class In, class DY, class Out>
  void operator()(const B& b, const In& in, const DY& dy_in, const Out& out, double eps) const {
    const layer_norm_inputs views{as_const(as_view(in.x)), as_const(as_view(in.w))};
    const auto dy = as_const(as_view(dy_in));
    const layer_norm_gradients gradients{as_view(out.dx), as_view(out.dw), as_view(out.dbias)};
    check_spaces(b, views.x, views.w, dy, gradients.dx, gradients.dw, gradients.dbias);
    static_assert(views.x.rank == 2 && views.w.rank == 1,
                  "deepseek::layer_norm_backward: wrong ranks; pass x, dy, dx [rows, dim], w, dw, "
                  "dbias [dim]");
    require_extent(views.w, 0, views.x.extent(1), "layer_norm_backward: w");
    require_same_shape(dy, views.x, "layer_norm_backward: dy");
    require_same_shape(gradients.dx, views.x, "layer_norm_backward: dx");
    require_same_shape(gradients.dw, views.w, "layer_norm_backward: dw");
    require_same_shape(gradients.dbias, views.w, "layer_norm_backward: dbias");
    require_data(views.x, "layer_norm_backward: x");
    require_data(views.w, "layer_norm_backward: w");
    require_data(dy, "layer_norm_backward: dy");
    require_data(gradients.dx, "layer_norm_backward: dx");
    require_same_or_apart(dy, gradients.dx, "layer_norm_backward: dy");
    require_data(gradients.dw, "layer_norm_backward: dw");
    require_data(gradients.dbias, "layer_norm_backward: dbias");
    require_epsilon(eps, "layer_norm_backward");
    if (views.x.empty()) return;
    layer_norm_backward_impl(b, views, dy, gradients, eps);
  }
};
namespace ops {
inline constexpr layer_norm_backward_op layer_norm_backward{};
}

}  // namespace deepseek
