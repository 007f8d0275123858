// SPDX-License-Identifier: Apache-2.0
// sum_of_squares: the sum of x_e^2 over all elements, as double; any strides.
// Order, the same on every host backend and for any number of threads: elements in row-major order
// are cut into chunks of 4096; element e of a chunk is added to lane e mod 16 (one fused
// multiply-add in double); the lanes are added pairwise (i and i + 8, then + 4, + 2, + 1); the
// chunks are added in order. Nothing overflows that a double holds: NaN and infinity pass through.
// Errors: invalid_argument (null data). Cost: 2 x size flops, x read once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct sum_of_squares_op {
  static constexpr std::string_view name = "sum_of_squares";

  template <class B, class X>
  double operator()(const B& b, const X& x_in) const {
    const auto x = as_const(as_view(x_in));
    check_spaces(b, x);
    require_data(x, "sum_of_squares: x");
    return x.empty() ? 0.0 : sum_of_squares_impl(b, x);
  }
};
namespace ops {
inline constexpr sum_of_squares_op sum_of_squares{};
}

}  // namespace deepseek
