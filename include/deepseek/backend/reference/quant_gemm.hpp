// SPDX-License-Identifier: Apache-2.0
// Reference forms of quant_gemm and grouped_quant_gemm: rows to bytes, then plain loops in 64-bit
// integers through int8_layout::at. Types, order and errors: ops/quant_gemm.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/quant_gemm.hpp"

namespace deepseek {

// Rows as bytes, each with its scale and zero point (stride 0: one for all).
struct int8_rows {
  view<std::uint8_t, host, dyn, dyn> codes;  // [M, layout().depth()]
  view<float, host, dyn> scale;              // [M]
  view<std::int32_t, host, dyn> zero;        // [M]

  int8_range range(index_t m) const { return {scale(m), zero(m)}; }
  void set_range(index_t m, const int8_range& r) const {
    scale(m) = r.scale;
    zero(m) = r.zero;
  }
  int8_rows part(index_t first, index_t count) const {
    return {rows(codes, first, count), rows(scale, first, count), rows(zero, first, count)};
  }
};

// [m, depth], the rows an odd number of cache lines apart: rows a multiple of 4 KiB apart would
// drive each other out of the nearest cache.
inline view<std::uint8_t, host, dyn, dyn> spaced_codes(arena<host>& memory, index_t m,
                                                       index_t depth) {
  constexpr index_t line = 64;
  const index_t row = ((depth + line - 1) / line | 1) * line;
  return {memory.make<std::uint8_t, dyn>(m * row).data(), {m, depth}, {row, 1}};
}

inline int8_rows make_int8_rows(arena<host>& memory, index_t m, const int8_operand<host>& w) {
  const index_t step = w.range == activation_range::per_token ? 1 : 0;
  const index_t ranges = step == 1 ? m : 1;
  return {spaced_codes(memory, m, w.layout().depth()),
          {memory.make<float, dyn>(ranges).data(), {m}, {step}},
          {memory.make<std::int32_t, dyn>(ranges).data(), {m}, {step}}};
}

inline int8_range observed_int8_range(const int8_operand<host>& w) {
  const int8_range r{w.x_scale(0), w.x_zero(0)};
  require(r.scale > 0 && std::isfinite(r.scale) && r.zero >= 0 && r.zero <= 255,
          error_code::invalid_argument, "quant_gemm: the input's scale is ", r.scale,
          " and its zero point ", r.zero,
          "; expected a scale > 0 and a zero point from 0 to 255: quantize or load the weights");
  return r;
}

[[noreturn]] inline void fail_not_quantizable(index_t m, index_t k, double value) {
  fail(error_code::nonfinite, "quant_gemm: x[", m, ", ", k, "] is ", value,
       "; int8 needs finite numbers, look for what made it in the layer before");
}

// The range of rows first .. last - 1; A: the type of the computation.
template <class A, class X>
int8_range int8_range_of_rows(const X& x, index_t first, index_t last) {
  A low = 0, high = 0;
  for (index_t m = first; m < last; ++m) {
    for (index_t k = 0; k < x.extent(1); ++k) {
      const A value = static_cast<A>(x(m, k));
      if (!std::isfinite(value)) fail_not_quantizable(m, k, static_cast<double>(value));
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  return int8_range_of(low, high);
}

template <class X>
void quantize_rows_impl(const reference&, const X& x, const int8_operand<host>& w,
                        const int8_rows& out) {
  using A = accumulate_t<typename X::value_type>;
  const index_t m_end = x.extent(0);
  if (w.range == activation_range::observed) out.set_range(0, observed_int8_range(w));
  if (w.range == activation_range::per_call) {
    out.set_range(0, int8_range_of_rows<A>(x, 0, m_end));
  }
  for (index_t m = 0; m < m_end; ++m) {
    if (w.range == activation_range::per_token) {
      out.set_range(m, int8_range_of_rows<A>(x, m, m + 1));
    }
    for (index_t k = 0; k < x.extent(1); ++k) {
      const A value = static_cast<A>(x(m, k));
      if (std::isnan(value)) fail_not_quantizable(m, k, static_cast<double>(value));
      out.codes(m, k) = int8_code(value, out.range(m));
    }
  }
}

// One expert's product.
template <class Y, class Bias>
void int8_product_impl(const reference& b, const int8_rows& x, const int8_operand<host>& w,
                       const Y& y, const Bias& bias) {
  using A = accumulate_t<typename Y::value_type>;
  b.runs_loops(quant_gemm_op::name);
  const int8_layout at = w.layout();
  for (index_t m = 0; m < y.extent(0); ++m) {
    for (index_t n = 0; n < at.n; ++n) {
      std::int64_t sum = 0;
      for (index_t k = 0; k < at.k; ++k) {
        sum += std::int64_t{x.codes(m, k)} * w.q.data()[at.at(n, k)];
      }
      sum -= std::int64_t{x.zero(m)} * w.sum(0, n);
      A add = 0;
      if constexpr (!std::is_same_v<Bias, none>) add = static_cast<A>(bias(n));
      const A scale = static_cast<A>(x.scale(m)) * static_cast<A>(w.scale(0, n));
      y(m, n) = static_cast<typename Y::value_type>(std::fma(static_cast<A>(sum), scale, add));
    }
  }
}

// Rows to bytes and then the product, each by the backend's own overload.
template <class B, class X, class Y, class Bias>
requires std::is_base_of_v<reference, B>
void quant_gemm_impl(const B& b, const X& x, const int8_operand<host>& w, const Y& y,
                     const Bias& bias) {
  const scope freed(b.workspace());
  const int8_rows codes = make_int8_rows(b.workspace(), x.extent(0), w);
  quantize_rows_impl(b, x, w, codes);
  int8_product_impl(b, codes, w, y, bias);
}

template <class Y, class O>
void grouped_int8_product_impl(const reference& b, const int8_rows& x, const int8_operand<host>& w,
                               const O& offsets, const Y& y) {
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    int8_product_impl(b, x.part(first, count), w.expert(e), rows(y, first, count), none{});
  });
}
template <class B, class X, class O, class Y>
requires std::is_base_of_v<reference, B>
void grouped_quant_gemm_impl(const B& b, const X& x, const int8_operand<host>& w, const O& offsets,
                             const Y& y) {
  const scope freed(b.workspace());
  const index_t count = offsets(offsets.extent(0) - 1);  // rows behind belong to no expert
  const int8_rows codes = make_int8_rows(b.workspace(), count, w);
  quantize_rows_impl(b, rows(x, 0, count), w, codes);
  grouped_int8_product_impl(b, codes, w, offsets, y);
}

}  // namespace deepseek
