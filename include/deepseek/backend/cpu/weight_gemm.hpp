// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm on the cpu: kernels/gemm_stored.hpp for float x and y, x of
// any strides, y with contiguous columns; other types and strides take the reference loops.
// Experts' products share one parallel region.
#pragma once

#include "deepseek/backend/cpu/kernels/coded_weights.hpp"
#include "deepseek/backend/cpu/mixed_gemm.hpp"
#include "deepseek/backend/reference/weight_gemm.hpp"

namespace deepseek {

inline kernels::e4m3_rows stored_weight(const fp8_matrix<host>& w) {
  return {reinterpret_cast<const unsigned char*>(w.q.data()), w.q.stride(0), w.extent(0),
          w.scale.data(), w.scale.stride(0)};
}
inline kernels::int8_rows_of_codes stored_weight(const int8_channels_matrix<host>& w) {
  return {reinterpret_cast<const unsigned char*>(w.q.data()), w.q.stride(0), w.extent(0),
          w.scale.data()};
}
template <class Scale>
kernels::int4_words<std::is_same_v<Scale, f16>> stored_weight(const int4_matrix<host, Scale>& w) {
  return {w.q,
          reinterpret_cast<const std::uint16_t*>(w.scale),
          w.zero,
          w.layout.words_deep(),
          w.layout.groups_deep(),
          w.layout.group,
          std::countr_zero(static_cast<std::uint64_t>(w.layout.group))};
}
inline kernels::e2m1_words stored_weight(const mxfp4_matrix<host>& w) {
  return {w.q, reinterpret_cast<const std::uint8_t*>(w.scale), w.layout.words_deep(),
          w.layout.groups_deep()};
}

template <class X, class W, class Y, class Bias>
requires all_elements_are<float, X, Y> && simd_bias<float, Bias>
void weight_gemm_impl(const cpu& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  bool direct = columns_contiguous(y);
  if constexpr (!std::is_same_v<Bias, none>) {
    direct = direct && (bias.stride(0) == 1 || bias.extent(0) == 1);
  }
  if (!direct) return weight_gemm_impl(static_cast<const reference&>(b), x, w, y, bias);
  auto problem = stored_problem_of(x, stored_weight(w.expert(0)), y);
  if constexpr (!std::is_same_v<Bias, none>) problem.c.then.bias = bias.data();
  kernels::gemm_stored(b.pool(), problem);
}

template <class X, class W, class O, class Y>
requires all_elements_are<float, X, Y>
void grouped_weight_gemm_impl(const cpu& b, const X& x, const W& w, const O& offsets, const Y& y) {
  if (!columns_contiguous(y)) {
    return grouped_weight_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
  }
  using problem = kernels::stored_problem<decltype(stored_weight(w.expert(0)))>;
  const scope freed(b.workspace());
  const auto problems = b.workspace().template make<problem, dyn>(w.experts());
  index_t count = 0;
  for_each_expert(offsets, [&](index_t e, index_t first, index_t n) {
    problems(count++) =
        stored_problem_of(rows(x, first, n), stored_weight(w.expert(e)), rows(y, first, n));
  });
  kernels::gemm_stored(b.pool(),
                       std::span<const problem>(problems.data(), static_cast<std::size_t>(count)));
}

}  // namespace deepseek
