// SPDX-License-Identifier: Apache-2.0
// copy: y = x, element by element; one shape, any strides, any element types.
// Types: a conversion rounds once to nearest, ties to even (float to bf16); the same type keeps
// every bit. Integers only to the same type. y may be x itself (nothing is done), but not
// overlap it otherwise.
// Errors: shape_mismatch, invalid_argument (null data), aliasing. Cost: each view once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct copy_op {
  static constexpr std::string_view name = "copy";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    require_same_shape(x, y, "copy: x");
    require_data(x, "copy: x");
    require_data(y, "copy: y");
    if constexpr (std::is_same_v<typename decltype(x)::value_type,
                                 typename decltype(y)::value_type>) {
      if (same_places(x, y)) return;
    }
    require_apart(x, y, "copy: x");
    if (!y.empty()) copy_impl(b, x, y);
  }
};
namespace ops {
inline constexpr copy_op copy{};
}

}  // namespace deepseek
