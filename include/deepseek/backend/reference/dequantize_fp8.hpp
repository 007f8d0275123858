// SPDX-License-Identifier: Apache-2.0
// dequantize_fp8 on the reference backend: plain loops; see ops/dequantize_fp8.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/dequantize_fp8.hpp"

namespace deepseek {

template <class Q, class S, class Y>
void dequantize_fp8_impl(const reference&, const Q& codes, const S& scale, const Y& y) {
  for (index_t m = 0; m < y.extent(0); ++m) {
    for (index_t k = 0; k < y.extent(1); ++k) {
      const float value = scale(m, k / fp8_block) * static_cast<float>(codes(m, k));
      y(m, k) = static_cast<typename Y::value_type>(value);
    }
  }
}

}  // namespace deepseek
