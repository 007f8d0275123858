// SPDX-License-Identifier: Apache-2.0
// softmax on cpu, float or double throughout, contiguous rows; see ops/softmax.hpp. Other types and
// strides take the reference. Three passes over a row: maximum, exponentials kept in y, scaling.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/softmax.hpp"

namespace deepseek {
namespace kernels {

// NaN never compares larger: the sum of the exponentials carries it.
template <class T>
T row_max(const T* x, index_t n) {
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  auto largest = pack<T>::broadcast(lowest);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        largest = max(simd::first_lanes(pack<T>::load_up_to(x + i, rest), rest, lowest), largest);
      });
  return reduce_max(largest);
}

template <class T>
void softmax_row(const T* x, T* y, index_t n) {
  using simd::pack;
  const T found = row_max(x, n);
  const T largest = found == -std::numeric_limits<T>::infinity() ? T(0) : found;
  const auto shift = pack<T>::broadcast(largest);
  const auto [total] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto e = simd::exp(pack<T>::load_up_to(x + i, rest) - shift);
        e.store_up_to(y + i, rest);
        return std::array{simd::first_lanes(e, rest, T(0))};
      });
  const auto scale = pack<T>::broadcast(total == T(0) ? T(0) : T(1) / total);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        (pack<T>::load_up_to(y + i, rest) * scale).store_up_to(y + i, rest);
      });
}

template <class T>
void softmax_backward_row(const T* y, const T* dy, T* dx, index_t n) {
  using simd::pack;
  const auto [dot] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        return std::array{pack<T>::load_up_to(y + i, rest) * pack<T>::load_up_to(dy + i, rest)};
      });
  const auto level = pack<T>::broadcast(dot);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto away = pack<T>::load_up_to(dy + i, rest) - level;
        (pack<T>::load_up_to(y + i, rest) * away).store_up_to(dx + i, rest);
      });
}

}  // namespace kernels

template <class X, class Y>
requires Packable<X, Y>
void softmax_impl(const cpu& b, const X& x, const Y& y) {
  if (!unit_rows(x, y)) return softmax_impl(static_cast<const reference&>(b), x, y);
  const index_t n = x.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) kernels::softmax_row(&x(i, 0), &y(i, 0), n);
  });
}

template <class Y, class DY, class DX>
requires Packable<Y, DY, DX>
void softmax_backward_impl(const cpu& b, const Y& y, const DY& dy, const DX& dx) {
  if (!unit_rows(y, dy, dx)) {
    return softmax_backward_impl(static_cast<const reference&>(b), y, dy, dx);
  }
  const index_t n = y.extent(1);
  parallel_rows(b, y.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      kernels::softmax_backward_row(&y(i, 0), &dy(i, 0), &dx(i, 0), n);
    }
  });
}

}  // namespace deepseek
