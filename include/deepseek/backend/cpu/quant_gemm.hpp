// SPDX-License-Identifier: Apache-2.0
// quant_gemm and grouped_quant_gemm on the cpu: kernels/quantize.hpp and kernels/int8.hpp for float
// rows of unit stride; other types and strides take the reference loops, rows and product each for
// themselves. Experts' products share one parallel region.
#pragma once

#include "deepseek/backend/cpu/kernels/int8.hpp"
#include "deepseek/backend/cpu/kernels/quantize.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/quant_gemm.hpp"

namespace deepseek {

template <class V>
inline constexpr bool float_elements = std::is_same_v<typename V::value_type, float>;

// The range of one row; zero is inside.
template <class X>
kernels::value_range int8_row_limits(const X& x, index_t m) {
  kernels::value_range r = kernels::range_of(x.data() + m * x.stride(0), x.extent(1));
  r.least = std::min(r.least, 0.0F), r.most = std::max(r.most, 0.0F);
  const bool finite = std::isfinite(r.least) && std::isfinite(r.most);
  // The loop of the reference names the element.
  if (r.kind != kernels::values::numbers || !finite) int8_range_of_rows<float>(x, m, m + 1);
  return r;
}

// Minima and maxima do not depend on their order: any cut into chunks gives the same range.
template <class X>
int8_range int8_range_of_call(const cpu& b, const X& x) {
  const index_t rows_each = rows_per_task(x.extent(1)), chunks = chunks_of(x.extent(0), rows_each);
  const scope freed(b.workspace());
  const auto limits = b.workspace().template make<float, dyn, 2>(chunks);
  parallel_rows(b, x.extent(0), rows_each, [&](index_t first, index_t last) {
    float least = 0, most = 0;
    for (index_t m = first; m < last; ++m) {
      const kernels::value_range r = int8_row_limits(x, m);
      least = std::min(least, r.least), most = std::max(most, r.most);
    }
    limits(first / rows_each, 0) = least, limits(first / rows_each, 1) = most;
  });
  float least = 0, most = 0;
  for (index_t c = 0; c < chunks; ++c) {
    least = std::min(least, limits(c, 0)), most = std::max(most, limits(c, 1));
  }
  return int8_range_of(least, most);
}

template <class X>
requires float_elements<X>
void quantize_rows_impl(const cpu& b, const X& x, const int8_operand<host>& w,
                        const int8_rows& out) {
  if (!unit_rows(x)) return quantize_rows_impl(static_cast<const reference&>(b), x, w, out);
  if (w.range == activation_range::observed) out.set_range(0, observed_int8_range(w));
  if (w.range == activation_range::per_call) out.set_range(0, int8_range_of_call(b, x));
  const index_t width = x.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(width), [&](index_t first, index_t last) {
    for (index_t m = first; m < last; ++m) {
      if (w.range == activation_range::per_token) {
        const kernels::value_range r = int8_row_limits(x, m);
        out.set_range(m, int8_range_of(r.least, r.most));
      }
      const int8_range r = out.range(m);
      const float* row = x.data() + m * x.stride(0);
      std::uint8_t* codes = out.codes.data() + m * out.codes.stride(0);
      if (kernels::quantize_row(row, width, {r.scale, r.zero}, codes) != kernels::values::numbers) {
        index_t k = 0;
        while (!std::isnan(row[k])) ++k;
        fail_not_quantizable(m, k, static_cast<double>(row[k]));
      }
    }
  });
}

template <class Y>
kernels::int8_problem int8_problem_of(const int8_rows& x, const int8_operand<host>& w, const Y& y,
                                      const float* bias) {
  return {{y.extent(0), y.extent(1), w.depth},
          x.codes.data(),
          x.codes.stride(0),
          {x.scale.data(), x.zero.data(), x.scale.stride(0)},
          w.q.data(),
          w.sum.data(),
          w.scale.data(),
          bias,
          y.data(),
          y.stride(0)};
}

template <class Y, class Bias>
requires float_elements<Y>
void int8_product_impl(const cpu& b, const int8_rows& x, const int8_operand<host>& w, const Y& y,
                       const Bias& bias) {
  const auto& plain_loops = static_cast<const reference&>(b);
  if (!unit_rows(y)) return int8_product_impl(plain_loops, x, w, y, bias);
  if constexpr (std::is_same_v<Bias, none>) {
    kernels::gemm_int8(b.pool(), int8_problem_of(x, w, y, nullptr));
  } else if constexpr (float_elements<Bias>) {
    if (!unit_rows(bias)) return int8_product_impl(plain_loops, x, w, y, bias);
    kernels::gemm_int8(b.pool(), int8_problem_of(x, w, y, bias.data()));
  } else {
    int8_product_impl(plain_loops, x, w, y, bias);
  }
}

template <class Y, class O>
requires float_elements<Y>
void grouped_int8_product_impl(const cpu& b, const int8_rows& x, const int8_operand<host>& w,
                               const O& offsets, const Y& y) {
  if (!unit_rows(y)) {
    return grouped_int8_product_impl(static_cast<const reference&>(b), x, w, offsets, y);
  }
  const scope freed(b.workspace());
  const auto problems = b.workspace().template make<kernels::int8_problem, dyn>(w.q.extent(0));
  index_t count = 0;
  for_each_expert(offsets, [&](index_t e, index_t first, index_t n) {
    problems(count++) = int8_problem_of(x.part(first, n), w.expert(e), rows(y, first, n), nullptr);
  });
  kernels::gemm_int8(b.pool(), std::span<const kernels::int8_problem>(
                                   problems.data(), static_cast<std::size_t>(count)));
}

}  // namespace deepseek
