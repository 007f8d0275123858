// SPDX-License-Identifier: Apache-2.0
// quantize_fp8, fp8_gemm and grouped_fp8_gemm on the cpu: rows become codes in parallel by the
// reference's formula; products in kernels/gemm_fp8.hpp for float y with contiguous columns, one
// expert after the other. Other outputs take the reference loops.
#pragma once

#include "deepseek/backend/cpu/kernels/gemm_fp8.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/backend/reference/fp8_gemm.hpp"

namespace deepseek {

template <class X, class Rows>
void quantize_fp8_impl(const cpu& b, const X& x, const Rows& out, fp8_scales kind) {
  require_quantizable(x);
  parallel_rows(b, x.extent(0), rows_per_task(x.extent(1)), [&](index_t first, index_t last) {
    for (index_t m = first; m < last; ++m) {
      for (index_t j = 0; j < out.scale.extent(1); ++j) quantize_fp8_part(x, out, m, j, kind);
    }
  });
}

template <class Y, class Bias>
requires all_elements_are<float, Y> && simd_bias<float, Bias>
void fp8_product_impl(const cpu& b, const fp8_codes& x, const fp8_matrix<host>& w, const Y& y,
                      const Bias& bias) {
  bool direct = columns_contiguous(y);
  if constexpr (!std::is_same_v<Bias, none>) {
    direct = direct && (bias.stride(0) == 1 || bias.extent(0) == 1);
  }
  if (!direct) return fp8_product_impl(static_cast<const reference&>(b), x, w, y, bias);
  const scope freed(b.workspace());
  const auto values = b.workspace().template make<float, dyn, dyn>(y.extent(0), w.extent(1));
  parallel_rows(b, y.extent(0), rows_per_task(w.extent(1)), [&](index_t first, index_t last) {
    for (index_t m = first; m < last; ++m) {
      for (index_t k = 0; k < w.extent(1); ++k) values(m, k) = x.codes(m, k);
    }
  });
  kernels::fp8_problem problem{{y.extent(0), y.extent(1), w.extent(1)},
                               {values.data(), values.stride(0), 1},
                               x.scale.data(),
                               x.scale.stride(0),
                               stored_weight(w),
                               {y.data(), y.stride(0)}};
  if constexpr (!std::is_same_v<Bias, none>) problem.c.then.bias = bias.data();
  kernels::gemm_fp8(b.pool(), problem);
}

}  // namespace deepseek
