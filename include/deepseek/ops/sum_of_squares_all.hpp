// SPDX-License-Identifier: Apache-2.0
// sum_of_squares_all: the sum over the tensors of a list, in order and in double, of
// sum_of_squares, with the bits of that op tensor by tensor. Tensors are contiguous. On a device
// three launches and one number read do all of them.
// Errors: invalid_argument (null data), unsupported (not contiguous). Cost: 2 flops an element,
// each read once.
#pragma once

#include "deepseek/ops/sum_of_squares.hpp"

#include <span>

namespace deepseek {

struct sum_of_squares_all_op {
  static constexpr std::string_view name = "sum_of_squares_all";

  template <class B, class T, class S>
  double operator()(const B& b, std::span<const view<const T, S, dyn>> tensors) const {
    for (const auto& x : tensors) {
      check_spaces(b, x);
      require_data(x, "sum_of_squares_all: x");
      require(x.contiguous(), error_code::unsupported,
              "sum_of_squares_all: a tensor is not contiguous; pass it to sum_of_squares");
    }
    if (tensors.empty()) return 0;
    if constexpr (requires { sum_of_squares_all_impl(b, tensors); }) {
      return sum_of_squares_all_impl(b, tensors);
    } else {
      double sum = 0;
      for (const auto& x : tensors) sum += ops::sum_of_squares(b, x);
      return sum;
    }
  }
};
namespace ops {
inline constexpr sum_of_squares_all_op sum_of_squares_all{};
}

}  // namespace deepseek
