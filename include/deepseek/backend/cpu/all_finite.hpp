// SPDX-License-Identifier: Apache-2.0
// all_finite on the cpu: the largest magnitude as an integer; infinity and NaN are above all
// numbers.
#pragma once

#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/all_finite.hpp"

#include <atomic>
#include <bit>
#include <limits>

namespace deepseek {

template <class T>
bool finite_run(const T* p, index_t n) {
  using word = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
  constexpr word magnitude = std::numeric_limits<word>::max();
  const word limit = std::bit_cast<word>(std::numeric_limits<T>::infinity());
  word most = 0;
  for (index_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<word>(p[i]) & magnitude);
  return most < limit;
}

template <class X>
bool all_finite_impl(const cpu& b, const X& x) requires Packable<X> {
  std::atomic<bool> finite{true};
  const auto run = [&](index_t n, const auto* p) {
    if (!finite_run(p, n)) finite.store(false, std::memory_order_relaxed);
  };
  if (!unit_rows(x)) return all_finite_impl(static_cast<const reference&>(b), x);
  for_each_span(b, run, x);
  return finite.load();
}

}  // namespace deepseek
