// SPDX-License-Identifier: Apache-2.0
// kl_divergence on the cpu: rows on all threads; the gradient of contiguous float or double rows by
// the softmax kernel, everything else by the row bodies of the reference; see
// ops/kl_divergence.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/reference/kl_divergence.hpp"

namespace deepseek {

namespace kernels {

// dx = by (softmax(x) sum(p) - p).
template <class T>
void kl_gradient_row(const T* p, const T* x, T* dx, index_t n, T by) {
  using simd::pack;
  const auto [given] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        return std::array{pack<T>::load_up_to(p + i, rest)};
      });
  if (given == T(0)) return void(std::fill_n(dx, n, T(0)));
  softmax_row(x, dx, n);
  const auto sum = pack<T>::broadcast(given), factor = pack<T>::broadcast(by);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto got = pack<T>::load_up_to(dx + i, rest) * sum;
        ((got - pack<T>::load_up_to(p + i, rest)) * factor).store_up_to(dx + i, rest);
      });
}

}  // namespace kernels

template <class P, class L>
double kl_divergence_impl(const cpu& b, const P& p, const L& logits) {
  const index_t n = p.extent(0);
  const scope freed(b.workspace());
  const auto each = b.workspace().template make<double, dyn>(n);
  parallel_rows(b, n, rows_per_task(16 * p.extent(1)), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      each(i) =
          static_cast<double>(kl_divergence_row(serial_team{}, slice(p, i), slice(logits, i)));
    }
  });
  double sum = 0;
  for (index_t i = 0; i < n; ++i) sum += each(i);
  return sum / static_cast<double>(n);
}

template <class P, class L, class DL>
requires Packable<P, L, DL>
void kl_divergence_gradient_impl(const cpu& b, const P& p, const L& logits, const DL& dlogits,
                                 double factor) {
  using T = typename DL::value_type;
  if (!unit_rows(p, logits, dlogits)) {
    return kl_divergence_gradient_impl(static_cast<const reference&>(b), p, logits, dlogits,
                                       factor);
  }
  const T by = static_cast<T>(factor / static_cast<double>(p.extent(0)));
  parallel_rows(b, p.extent(0), rows_per_task(8 * p.extent(1)), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      kernels::kl_gradient_row(&p(i, 0), &logits(i, 0), &dlogits(i, 0), p.extent(1), by);
    }
  });
}

}  // namespace deepseek
