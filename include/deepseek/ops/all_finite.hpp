// SPDX-License-Identifier: Apache-2.0
// all_finite: whether no element of x is NaN or infinite; true where there are no elements.
// Any strides. Errors: invalid_argument (null data). Cost: x read once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct all_finite_op {
  static constexpr std::string_view name = "all_finite";

  template <class B, class X>
  bool operator()(const B& b, const X& x_in) const {
    const auto x = as_const(as_view(x_in));
    check_spaces(b, x);
    require_data(x, "all_finite: x");
    return x.empty() || all_finite_impl(b, x);
  }
};
namespace ops {
inline constexpr all_finite_op all_finite{};
}

}  // namespace deepseek
