// SPDX-License-Identifier: Apache-2.0
// Reference forms of quantize_fp8, fp8_gemm and grouped_fp8_gemm: plain loops, each sum an fma
// chain in order. Types and errors: ops/fp8_gemm.hpp.
#pragma once

#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/fp8_gemm.hpp"

#include <cmath>

namespace deepseek {

template <class X>
void require_quantizable(const X& x) {
  for (index_t m = 0; m < x.extent(0); ++m) {
    for (index_t k = 0; k < x.extent(1); ++k) {
      const float value = static_cast<float>(x(m, k));
      require(std::isfinite(value), error_code::nonfinite, "quantize_fp8: x[", m, ", ", k, "] is ",
              value, "; e4m3 needs finite numbers, look for what made it in the layer before");
    }
  }
}

// Block j of row m.
template <class X, class Rows>
void quantize_fp8_part(const X& x, const Rows& out, index_t m, index_t j, fp8_scales kind) {
  const index_t first = j * fp8_block, last = std::min(first + fp8_block, x.extent(1));
  float amax = 0;
  for (index_t k = first; k < last; ++k) {
    amax = std::max(amax, std::abs(static_cast<float>(x(m, k))));
  }
  const float scale = fp8_scale_of(amax, kind);
  out.scale(m, j) = scale;
  for (index_t k = first; k < last; ++k) {
    out.codes(m, k) = fp8_code(static_cast<float>(x(m, k)), scale);
  }
}

template <class X, class Rows>
void quantize_fp8_impl(const reference&, const X& x, const Rows& out, fp8_scales kind) {
  require_quantizable(x);
  for (index_t m = 0; m < x.extent(0); ++m) {
    for (index_t j = 0; j < out.scale.extent(1); ++j) quantize_fp8_part(x, out, m, j, kind);
  }
}

using fp8_codes = fp8_rows<view<f8_e4m3, host, dyn, dyn>, view<float, host, dyn, dyn>>;

template <class Y, class Bias>
void fp8_product_impl(const reference& b, const fp8_codes& x, const fp8_matrix<host>& w, const Y& y,
                      const Bias& bias) {
  using A = accumulate_t<typename Y::value_type>;
  b.runs_loops(fp8_gemm_op::name);
  const index_t depth = w.extent(1);
  for (index_t m = 0; m < y.extent(0); ++m) {
    for (index_t n = 0; n < y.extent(1); ++n) {
      A sum = 0;
      for (index_t j = 0; j < x.scale.extent(1); ++j) {
        A inner = 0;
        for (index_t k = j * fp8_block; k < std::min(depth, (j + 1) * fp8_block); ++k) {
          inner = std::fma(static_cast<A>(static_cast<float>(x.codes(m, k))),
                           static_cast<A>(static_cast<float>(w.q(n, k))), inner);
        }
        const A scale = static_cast<A>(x.scale(m, j)) * static_cast<A>(w.scale(n / fp8_block, j));
        sum = std::fma(inner, scale, sum);
      }
      if constexpr (!std::is_same_v<Bias, none>) sum += static_cast<A>(bias(n));
      y(m, n) = static_cast<typename Y::value_type>(sum);
    }
  }
}

// Rows as codes in memory of the backend.
template <class B, class X>
fp8_codes make_fp8_codes(const B& b, const X& x) {
  const fp8_codes codes{
      b.workspace().template make<f8_e4m3, dyn, dyn>(x.extent(0), x.extent(1)),
      b.workspace().template make<float, dyn, dyn>(x.extent(0), fp8_blocks_in(x.extent(1)))};
  if (!x.empty()) quantize_fp8_impl(b, x, codes, fp8_scales::any);
  return codes;
}

template <class B, class X, class Y, class Bias>
requires std::is_base_of_v<reference, B>
void fp8_gemm_impl(const B& b, const X& x, const fp8_operand<host>& w, const Y& y,
                   const Bias& bias) {
  const scope freed(b.workspace());
  fp8_product_impl(b, make_fp8_codes(b, x), w.expert(0), y, bias);
}

template <class B, class X, class O, class Y>
requires std::is_base_of_v<reference, B>
void grouped_fp8_gemm_impl(const B& b, const X& x, const fp8_operand<host>& w, const O& offsets,
                           const Y& y) {
  const scope freed(b.workspace());
  const fp8_codes codes = make_fp8_codes(b, x);
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    fp8_product_impl(b, {rows(codes.codes, first, count), rows(codes.scale, first, count)},
                     w.expert(e), rows(y, first, count), none{});
  });
}

}  // namespace deepseek
