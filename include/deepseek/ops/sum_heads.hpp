// SPDX-License-Identifier: Apache-2.0
// sum_heads: y[t, d] = sum over h of x[t, h, d]: the gradient of what all heads share.
// x[tokens, heads, dim] y[tokens, dim], any strides; y is written. No heads: zeros.
// Types: summed in accumulate_t of y over h = 0, 1, ... and rounded once. Bits do not depend on
// threads. Errors: shape_mismatch, invalid_argument (null data). Cost: one pass over x.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct sum_heads_op {
  static constexpr std::string_view name = "sum_heads";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    static_assert(decltype(x)::rank == 3 && decltype(y)::rank == 2,
                  "deepseek::sum_heads: wrong ranks; pass x[tokens, heads, dim], y[tokens, dim]");
    require_extent(x, 0, y.extent(0), "sum_heads: x");
    require_extent(x, 2, y.extent(1), "sum_heads: x");
    require_data(x, "sum_heads: x");
    require_data(y, "sum_heads: y");
    if (!y.empty()) sum_heads_impl(b, x, y);
  }
};
namespace ops {
inline constexpr sum_heads_op sum_heads{};
}

}  // namespace deepseek
