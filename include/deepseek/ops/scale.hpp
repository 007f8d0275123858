// SPDX-License-Identifier: Apache-2.0
// scale: y = factor * y, element by element; any strides.
// Types: factor is first rounded to accumulate_t of y; the product is formed there and rounded
// once. Errors: invalid_argument (null data). Cost: size flops, y read and written once.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct scale_op {
  static constexpr std::string_view name = "scale";

  template <class B, class Y>
  void operator()(const B& b, double factor, Y&& y_in) const {
    const auto y = as_view(y_in);
    check_spaces(b, y);
    require_data(y, "scale: y");
    if (!y.empty()) scale_impl(b, factor, y);
  }
};
namespace ops {
inline constexpr scale_op scale{};
}

}  // namespace deepseek
