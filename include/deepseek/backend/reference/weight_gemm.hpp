// SPDX-License-Identifier: Apache-2.0
// Reference forms of weight_gemm and grouped_weight_gemm: plain loops over the weights as numbers,
// sums over k in order in accumulate_t of y.
#pragma once

#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace deepseek {

// w: a matrix of make_weight's kind, [N, K].
template <class X, class M, class Y, class Bias>
void matrix_product(const X& x, const M& w, const Y& y, const Bias& bias) {
  using A = accumulate_t<typename Y::value_type>;
  for (index_t m = 0; m < y.extent(0); ++m) {
    for (index_t n = 0; n < y.extent(1); ++n) {
      A sum = 0;
      for (index_t k = 0; k < x.extent(1); ++k) {
        sum += static_cast<A>(x(m, k)) * static_cast<A>(w(n, k));
      }
      if constexpr (!std::is_same_v<Bias, none>) sum += static_cast<A>(bias(n));
      y(m, n) = static_cast<typename Y::value_type>(sum);
    }
  }
}

template <class X, class W, class Y, class Bias>
void weight_gemm_impl(const reference& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  b.runs_loops(weight_gemm_op::name);
  matrix_product(x, w.expert(0), y, bias);
}

template <class X, class W, class O, class Y>
void grouped_weight_gemm_impl(const reference& b, const X& x, const W& w, const O& offsets,
                              const Y& y) {
  b.runs_loops(grouped_weight_gemm_op::name);
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    matrix_product(rows(x, first, count), w.expert(e), rows(y, first, count), none{});
  });
}

}  // namespace deepseek
