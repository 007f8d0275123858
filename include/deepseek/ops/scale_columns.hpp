// SPDX-License-Identifier: Apache-2.0
// scale_columns: y[m, k] = x[m, k] s[k]; y may be x. Any strides.
// Shapes: x, y [M, K], s [K]. Types: any floating; s is first rounded to accumulate_t of y; the
// product is formed there and rounded once. Rows are independent.
// Errors: shape_mismatch, invalid_argument (null data), aliasing (y overlaps x and is not
// x). Cost: M K flops, x read, y written once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct scale_columns_op {
  static constexpr std::string_view name = "scale_columns";

  template <class B, class X, class S, class Y>
  void operator()(const B& b, const X& x_in, const S& s_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto s = as_const(as_view(s_in));
    const auto y = as_view(y_in);
    static_assert(decltype(x)::rank == 2 && decltype(s)::rank == 1,
                  "deepseek::scale_columns: pass x[M, K], s[K], y[M, K]");
    check_spaces(b, x, s, y);
    require_extent(s, 0, x.extent(1), "scale_columns: s");
    require_same_shape(y, x, "scale_columns: y");
    require_data(x, "scale_columns: x");
    require_data(s, "scale_columns: s");
    require_data(y, "scale_columns: y");
    require_same_or_apart(x, y, "scale_columns: x");
    if (!y.empty()) scale_columns_impl(b, x, s, y);
  }
};
namespace ops {
inline constexpr scale_columns_op scale_columns{};
}

}  // namespace deepseek
