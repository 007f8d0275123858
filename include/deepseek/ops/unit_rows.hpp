// SPDX-License-Identifier: Apache-2.0
// unit_rows: every row divided by its length: y = x / n, n = max(|x|, eps); x, y [rows, dim],
// norms [rows] holds n. y may be x. Backward, with y and norms as they came out:
//   dx = (dy - y (y . dy)) / n, and dy / n where |x| < eps (y . y < 0.9 tells); dx may be dy.
// A row whose squares overflow (float: |x| > 1.8e19) is summed once more, scaled: y is right for
// all finite x; a length that itself overflows is infinite in norms, its dx 0. Types: accumulate_t;
// norms are accumulate_t of y or wider. Errors: shape_mismatch, invalid_argument, aliasing (an
// output overlaps an input and is not the same view). Rows are independent. Cost: two passes. What
// CLIP compares: cosines.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class Y, class N>
struct unit_outputs {
  Y y;
  N norms;
};
template <class Y, class N>
unit_outputs(Y&&, N&&) -> unit_outputs<argument_t<Y>, argument_t<N>>;

struct unit_rows_op {
  static constexpr std::string_view name = "unit_rows";

  template <class B, class X, class Y, class N>
  void operator()(const B& b, const X& x_in, const unit_outputs<Y, N>& out,
                  double eps = 1e-12) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(out.y);
    const auto norms = as_view(out.norms);
    check_spaces(b, x, y, norms);
    static_assert(x.rank == 2 && norms.rank == 1,
                  "deepseek::unit_rows: wrong ranks; pass x, y [rows, dim], norms [rows]");
    require_same_shape(y, x, "unit_rows: y");
    require_extent(norms, 0, x.extent(0), "unit_rows: norms");
    require_data(x, "unit_rows: x");
    require_data(y, "unit_rows: y");
    require_same_or_apart(x, y, "unit_rows: x");
    require_data(norms, "unit_rows: norms");
    require(std::isfinite(eps) && eps > 0, error_code::invalid_argument, "unit_rows: eps is ", eps,
            "; pass a finite number > 0");
    if (!norms.empty()) unit_rows_impl(b, x, y, norms, eps);
  }
};

struct unit_rows_backward_op {
  static constexpr std::string_view name = "unit_rows_backward";

  template <class B, class Y, class N, class DY, class DX>
  void operator()(const B& b, const unit_outputs<Y, N>& out, const DY& dy_in, DX&& dx_in) const {
    const auto y = as_const(as_view(out.y));
    const auto norms = as_const(as_view(out.norms));
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, y, norms, dy, dx);
    require_same_shape(dy, y, "unit_rows_backward: dy");
    require_same_shape(dx, y, "unit_rows_backward: dx");
    require_extent(norms, 0, y.extent(0), "unit_rows_backward: norms");
    require_data(y, "unit_rows_backward: y");
    require_data(norms, "unit_rows_backward: norms");
    require_data(dy, "unit_rows_backward: dy");
    require_data(dx, "unit_rows_backward: dx");
    require_same_or_apart(dy, dx, "unit_rows_backward: dy");
    if (!norms.empty()) unit_rows_backward_impl(b, y, norms, dy, dx);
  }
};

namespace ops {
inline constexpr unit_rows_op unit_rows{};
inline constexpr unit_rows_backward_op unit_rows_backward{};
}  // namespace ops

}  // namespace deepseek
