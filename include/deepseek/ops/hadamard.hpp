// SPDX-License-Identifier: Apache-2.0
// hadamard: y = x H / sqrt(dim), row by row; H the Hadamard matrix in Sylvester's order, H_1 = (1),
// H_2n = ((H_n, H_n), (H_n, -H_n)); dim a power of two (1 among them). Orthogonal and symmetric:
// lengths and inner products stay, and hadamard is its own inverse and its own backward.
// x[..., dim] y[..., dim], any rank >= 1; y may be x. It spreads one large element over the row,
// which then loses less in 8 bits.
// Types may differ; log2(dim) stages of sums and differences in accumulate_t of y, rounded once.
// Errors: shape_mismatch, invalid_argument (null data), config (dim is no power of two),
// aliasing (y overlaps x and is not x).
// Bits do not depend on threads. Cost: log2(dim) flops an element. Source: Sylvester 1867.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct hadamard_op {
  static constexpr std::string_view name = "hadamard";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    constexpr int rank = decltype(y)::rank;
    static_assert(rank >= 1, "deepseek::hadamard: wrong rank; pass x, y [..., dim]");
    require_same_shape(y, x, "hadamard: y");
    require_data(x, "hadamard: x");
    require_data(y, "hadamard: y");
    require_same_or_apart(x, y, "hadamard: x");
    const index_t dim = x.extent(rank - 1);
    require((dim & (dim - 1)) == 0, error_code::config, "hadamard: rows of ", dim,
            " elements; their number must be a power of two: pad them with zeros");
    if (!x.empty()) hadamard_impl(b, x, y);
  }
};
namespace ops {
inline constexpr hadamard_op hadamard{};
}

}  // namespace deepseek
