// SPDX-License-Identifier: Apache-2.0
// Reference forms of int4_int8_gemm and grouped_int4_int8_gemm: rows to bytes, then plain loops in
// 64-bit integers, group after group. Types, order and errors: ops/int4_int8_gemm.hpp.
#pragma once

#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/int4_int8_gemm.hpp"

#include <cmath>

namespace deepseek {

[[noreturn]] inline void fail_no_byte(index_t m, index_t k, double value) {
  fail(error_code::nonfinite, "int4_int8_gemm: x[", m, ", ", k, "] is ", value,
       "; int8 needs finite numbers, look for what made it in the layer before");
}

// The scale of row m, whose numbers are finite.
template <class X>
float signed_row_scale(const X& x, index_t m) {
  using A = accumulate_t<typename X::value_type>;
  A largest = 0;
  for (index_t k = 0; k < x.extent(1); ++k) {
    const A value = static_cast<A>(x(m, k));
    if (!std::isfinite(value)) fail_no_byte(m, k, static_cast<double>(value));
    largest = std::max(largest, std::abs(value));
  }
  return signed_byte_scale(largest);
}

// One row of y.
template <class M, class Y, class Bias>
void int4_int8_row(const view<std::int8_t, host, dyn>& codes, float scale, const M& w, const Y& y,
                   index_t m, const Bias& bias) {
  using A = accumulate_t<typename Y::value_type>;
  const int4_layout& at = w.layout;
  for (index_t n = 0; n < at.n; ++n) {
    A sum = 0;
    for (index_t k0 = 0; k0 < at.k; k0 += at.group) {
      const int4_group g = w.group(n, k0);
      std::int64_t products = 0;
      for (index_t k = k0; k < std::min(at.k, k0 + at.group); ++k) {
        products += std::int64_t{int4_layout::code(w.q[at.word_at(n, k)], k) - g.zero} * codes(k);
      }
      sum = std::fma(static_cast<A>(products), static_cast<A>(g.scale), sum);
    }
    A add = 0;
    if constexpr (!std::is_same_v<Bias, none>) add = static_cast<A>(bias(n));
    y(m, n) = static_cast<typename Y::value_type>(std::fma(sum, static_cast<A>(scale), add));
  }
}

template <class X, class M, class Y, class Bias>
void int4_int8_product(const reference& b, const X& x, const M& w, const Y& y, const Bias& bias) {
  using A = accumulate_t<typename X::value_type>;
  b.runs_loops(int4_int8_gemm_op::name);
  const scope freed(b.workspace());
  const auto scales = b.workspace().template make<float, dyn>(x.extent(0));
  const auto codes = b.workspace().template make<std::int8_t, dyn>(x.extent(1));
  for (index_t m = 0; m < x.extent(0); ++m) scales(m) = signed_row_scale(x, m);
  for (index_t m = 0; m < x.extent(0); ++m) {
    for (index_t k = 0; k < x.extent(1); ++k) {
      codes(k) = signed_byte(static_cast<A>(x(m, k)), scales(m));
    }
    int4_int8_row(codes, scales(m), w, y, m, bias);
  }
}

template <class X, class W, class Y, class Bias>
void int4_int8_gemm_impl(const reference& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  int4_int8_product(b, x, w.expert(0), y, bias);
}

// All of x is looked at before anything is written.
template <class X, class W, class O, class Y>
void grouped_int4_int8_gemm_impl(const reference& b, const X& x, const W& w, const O& offsets,
                                 const Y& y) {
  for (index_t m = 0; m < offsets(offsets.extent(0) - 1); ++m) signed_row_scale(x, m);
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    int4_int8_product(b, rows(x, first, count), w.expert(e), rows(y, first, count), none{});
  });
}

}  // namespace deepseek
