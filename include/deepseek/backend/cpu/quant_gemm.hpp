// SPDX-License-Identifier: Apache-2.0
// quant_gemm and grouped_quant_gemm on the cpu: kernels/quantize.hpp and kernels/int8.hpp for float
// rows of unit stride; other types and strides take the reference loops, without experts rows and
// product each for themselves. Experts' products share one parallel region.
#pragma once

#include "deepseek/backend/cpu/kernels/int8.hpp"
#include "deepseek/backend/cpu/kernels/quantize.hpp"
#include "deepseek/backend/cpu/products.hpp"
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

template <>
struct joint_kernels<float, int8_operand<host>, float> {
  using problem = kernels::int8_problem;
  template <class Bias>
  static constexpr bool takes_bias = float_elements<Bias>;

  static bool takes(const auto& x, const auto&, const auto& y) { return unit_rows(x, y); }
  static int8_rows make_rows(const cpu& b, const auto& x, const int8_operand<host>& w) {
    const int8_rows made = make_int8_rows(b.workspace(), x.extent(0), w);
    quantize_rows_impl(b, x, w, made);
    return made;
  }
  static bool shares_rows(const int8_operand<host>& w, const int8_operand<host>& other) {
    if (w.range != other.range) return false;
    return w.range != activation_range::observed ||
           (w.x_scale(0) == other.x_scale(0) && w.x_zero(0) == other.x_zero(0));
  }
  static problem problem_of(const int8_rows& x, index_t first, const int8_operand<host>& w,
                            const auto& y) {
    return int8_problem_of(x.part(first, y.extent(0)), w, y, nullptr);
  }
  static void set_bias(const cpu&, problem& p, const auto& bias) { p.bias = bias.data(); }
  static void run(thread_pool& pool, std::span<const problem> problems) {
    kernels::gemm_int8(pool, problems);
  }
};

// All experts' products in one parallel region.
template <class X, class O, class Y>
requires float_elements<X> && float_elements<Y>
void grouped_quant_gemm_impl(const cpu& b, const X& x, const int8_operand<host>& w,
                             const O& offsets, const Y& y) {
  const auto p = product_of(x, w, y, none{}, offsets);
  if (is_taken(p)) return multiply_alone(b, p);
  grouped_quant_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
}

}  // namespace deepseek
