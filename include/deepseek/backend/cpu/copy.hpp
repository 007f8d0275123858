// SPDX-License-Identifier: Apache-2.0
// copy on the cpu: runs of neighbouring elements, on all threads; see ops/copy.hpp.
#pragma once

#include "deepseek/backend/cpu/eigen.hpp"
#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/copy.hpp"

#include <algorithm>

namespace deepseek {

// n neighbouring elements; one rounding each.
template <class To, class From>
void convert_run(index_t n, const From* from, To* to) {
  if constexpr (std::is_same_v<To, From>) {
    std::copy_n(from, n, to);
  } else if constexpr (std::is_floating_point_v<To> && std::is_floating_point_v<From>) {
    as_array(to, n) = as_array(from, n).template cast<To>();
  } else if constexpr (SameLanes<To, From>) {
    simd::along_row<float>(
        n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
          simd::store_narrow(to + i, simd::load_wide(from + i, rest), rest);
        });
  } else {
    for (index_t i = 0; i < n; ++i) to[i] = convert_to<To>(from[i]);
  }
}

template <class X, class Y>
void copy_impl(const cpu& b, const X& x, const Y& y) {
  const auto run = [](index_t n, const auto* from, auto* to) { convert_run(n, from, to); };
  if (!unit_rows(x, y)) return copy_impl(static_cast<const reference&>(b), x, y);
  for_each_span(b, run, x, y);
}

}  // namespace deepseek
