// SPDX-License-Identifier: Apache-2.0
// hadamard on the cpu, float or double, contiguous rows, on all threads; see ops/hadamard.hpp. The
// short distances are exchanges of lanes inside a register, the long ones sums of registers: the
// additions of the reference, in its order, and its bits. Other types and strides take the
// reference.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/hadamard.hpp"

namespace deepseek {
namespace kernels {

// Butterflies between lanes i and i ^ Distance: the lower lane gets the sum, the upper the
// difference.
template <int Distance, class T>
DEEPSEEK_INLINE simd::pack<T> exchange_lanes(simd::pack<T> x) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    const simd::vector<T> partner = __builtin_shufflevector(x.v, x.v, (I ^ Distance)...);
    const simd::vector<T> own{((I & Distance) == 0 ? T(1) : T(-1))...};
    return simd::pack<T>{partner} + simd::pack<T>{x.v} * simd::pack<T>{own};
  }
  (std::make_integer_sequence<int, simd::pack<T>::width>{});
}

template <int Distance, class T>
DEEPSEEK_INLINE simd::pack<T> exchange_up_to(simd::pack<T> x) {
  x = exchange_lanes<Distance>(x);
  if constexpr (2 * Distance < simd::pack<T>::width) x = exchange_up_to<2 * Distance>(x);
  return x;
}

// n: a power of two, at least one register.
template <class T>
void hadamard_row(const T* x, T* y, index_t n) {
  using simd::pack;
  constexpr index_t width = pack<T>::width;
  for (index_t i = 0; i < n; i += width) exchange_up_to<1>(pack<T>::load(x + i)).store(y + i);
  for (index_t distance = width; distance < n; distance *= 2) {
    for (index_t first = 0; first < n; first += 2 * distance) {
      for (index_t i = first; i < first + distance; i += width) {
        const auto a = pack<T>::load(y + i), b = pack<T>::load(y + i + distance);
        (a + b).store(y + i);
        (a - b).store(y + i + distance);
      }
    }
  }
  const auto factor = pack<T>::broadcast(T(1) / std::sqrt(static_cast<T>(n)));
  for (index_t i = 0; i < n; i += width) (pack<T>::load(y + i) * factor).store(y + i);
}

}  // namespace kernels

template <class X, class Y>
requires Packable<X, Y>
void hadamard_impl(const cpu& b, const X& x, const Y& y) {
  using T = typename Y::value_type;
  const index_t n = row_length(x);
  if (!unit_rows(x, y) || n < simd::pack<T>::width) {
    return hadamard_impl(static_cast<const reference&>(b), x, y);
  }
  parallel_rows(b, row_count(x), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t r = first; r < last; ++r) {
      kernels::hadamard_row(row_at(x, r).data(), row_at(y, r).data(), n);
    }
  });
}

}  // namespace deepseek
