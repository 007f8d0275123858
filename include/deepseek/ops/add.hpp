// SPDX-License-Identifier: Apache-2.0
// add: y += x, element by element; x and y have one shape, any strides.
// Types: the sum is formed in accumulate_t of y and rounded once. Bits do not depend on threads.
// Errors: shape_mismatch, invalid_argument (null data). Cost: size flops, 3 x size x bytes.
#pragma once

#include "deepseek/core/backend.hpp"

namespace deepseek {

struct add_op {
  static constexpr std::string_view name = "add";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    static_assert(decltype(x)::rank == decltype(y)::rank,
                  "deepseek::add: x and y have different ranks; pass views of one shape");
    for (int i = 0; i < x.rank; ++i) require_extent(x, i, y.extent(i), "add: x");
    require_data(x, "add: x");
    require_data(y, "add: y");
    if (y.empty()) return;
    add_impl(b, x, y);
  }
};
// Ops live in deepseek::ops: a layer of the same idea (rms_norm<256>) keeps the short name.
namespace ops {
inline constexpr add_op add{};
}

}  // namespace deepseek
