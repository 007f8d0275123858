// SPDX-License-Identifier: Apache-2.0
// fill: every element of y becomes `value`, rounded once to the element type; any strides.
// Errors: invalid_argument (null data). Cost: y written once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct fill_op {
  static constexpr std::string_view name = "fill";

  template <class B, class Y>
  void operator()(const B& b, double value, Y&& y_in) const {
    const auto y = as_view(y_in);
    check_spaces(b, y);
    require_data(y, "fill: y");
    if (!y.empty()) fill_impl(b, value, y);
  }
};
namespace ops {
inline constexpr fill_op fill{};
}

}  // namespace deepseek
