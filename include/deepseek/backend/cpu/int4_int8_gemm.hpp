// SPDX-License-Identifier: Apache-2.0
// int4_int8_gemm and grouped_int4_int8_gemm on the cpu: kernels/gemm_int4.hpp for float x with unit
// steps, y with contiguous columns and a float bias; other types and strides take the reference
// loops. Experts' products share one parallel region.
#pragma once

#include "deepseek/backend/cpu/kernels/gemm_int4.hpp"
#include "deepseek/backend/cpu/kernels/quantize.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/backend/reference/int4_int8_gemm.hpp"

namespace deepseek {

struct signed_row_memory {
  view<std::int8_t, host, dyn, dyn> codes;  // [m, whole words of 8], rows apart by odd lines
  view<float, host, dyn> scale;             // [m]
  view<float, host, dyn, dyn> sums;         // [m, groups]

  kernels::signed_rows from(index_t m) const {
    return {reinterpret_cast<const std::byte*>(codes.data() + m * codes.stride(0)), codes.stride(0),
            scale.data() + m, sums.data() + m * sums.stride(0), sums.stride(0)};
  }
};

inline signed_row_memory make_signed_rows(arena<host>& memory, index_t m, const int4_layout& at) {
  constexpr index_t line = 64;
  const index_t width = 8 * at.words_deep(), row = ((width + line - 1) / line | 1) * line;
  const index_t readable = m + kernels::signed_rows::spare_rows;
  return {{memory.make<std::int8_t, dyn>(readable * row).data(), {m, width}, {row, 1}},
          memory.make<float, dyn>(m),
          memory.make<float, dyn, dyn>(readable, at.groups_deep())};
}

// Row m of x: scale, bytes in the order of words, sums of each group.
template <class X>
void make_signed_row(const X& x, index_t m, index_t group, const signed_row_memory& to) {
  const index_t k = x.extent(1);
  const float* row = x.data() + m * x.stride(0);
  const kernels::value_range r = kernels::range_of(row, k);
  const float largest = k == 0 ? 0.0F : std::max(-r.least, r.most);
  if (r.kind != kernels::values::numbers || !std::isfinite(largest)) {
    signed_row_scale(x, m);  // names the element
  }
  to.scale(m) = signed_byte_scale(largest);
  std::int8_t* const codes = to.codes.data() + m * to.codes.stride(0);
  kernels::quantize_signed_row(row, k, to.scale(m), codes);
  std::fill(codes + k, codes + to.codes.extent(1), std::int8_t(0));
  for (index_t g = 0; g < to.sums.extent(1); ++g) {
    const index_t first = g * group, last = std::min(to.codes.extent(1), first + group);
    to.sums(m, g) = kernels::sum_of_bytes(codes + first, last - first);
  }
  kernels::deal_bytes(codes, to.codes.extent(1));
}

template <class X, class W>
signed_row_memory make_signed_rows(const cpu& b, const X& x, const W& w) {
  const int4_layout& at = w.weights.layout;
  const signed_row_memory to = make_signed_rows(b.workspace(), x.extent(0), at);
  parallel_rows(b, x.extent(0), rows_per_task(x.extent(1)), [&](index_t first, index_t last) {
    for (index_t m = first; m < last; ++m) make_signed_row(x, m, at.group, to);
  });
  return to;
}

template <class M, class Y>
auto int4_problem_of(const kernels::signed_rows& x, const M& w, const Y& y) {
  const auto words = stored_weight(w);
  return kernels::int4_problem<std::remove_const_t<decltype(words)>>{
      {y.extent(0), y.extent(1), w.layout.k}, x, words, nullptr, y.data(), y.stride(0)};
}

template <class Scale>
struct joint_kernels<float, int4_activations_operand<host, Scale>, float> {
  using operand = int4_activations_operand<host, Scale>;
  using problem = decltype(int4_problem_of(std::declval<kernels::signed_rows>(),
                                           std::declval<operand>().expert(0),
                                           std::declval<view<float, host, dyn, dyn>>()));
  template <class Bias>
  static constexpr bool takes_bias = simd_bias<float, Bias>;

  static bool takes(const auto& x, const operand&, const auto& y) {
    return columns_contiguous(y) && unit_rows(x);
  }
  static signed_row_memory make_rows(const cpu& b, const auto& x, const operand& w) {
    return make_signed_rows(b, x, w);
  }
  static bool shares_rows(const operand& w, const operand& other) {
    return w.weights.layout.group == other.weights.layout.group;
  }
  static problem problem_of(const signed_row_memory& x, index_t first,
                            const int4_matrix<host, Scale>& w, const auto& y) {
    return int4_problem_of(x.from(first), w, y);
  }
  static void set_bias(const cpu&, problem& p, const auto& bias) { p.bias = bias.data(); }
  static void run(thread_pool& pool, std::span<const problem> problems) {
    kernels::gemm_int4(pool, problems);
  }
};

template <class X, class W, class Y, class Bias>
requires all_elements_are<float, X, Y> && simd_bias<float, Bias>
void int4_int8_gemm_impl(const cpu& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  const auto p = product_of(x, w, y, bias);
  if (is_taken(p)) return multiply_alone(b, p);
  int4_int8_gemm_impl(static_cast<const reference&>(b), x, w, y, bias);
}

template <class X, class W, class O, class Y>
requires all_elements_are<float, X, Y>
void grouped_int4_int8_gemm_impl(const cpu& b, const X& x, const W& w, const O& offsets,
                                 const Y& y) {
  const auto p = product_of(x, w, y, none{}, offsets);
  if (is_taken(p)) return multiply_alone(b, p);
  grouped_int4_int8_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
}

}  // namespace deepseek
