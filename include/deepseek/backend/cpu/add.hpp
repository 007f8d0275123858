// SPDX-License-Identifier: Apache-2.0
// add on the cpu: runs of neighbouring elements, on all threads; see ops/add.hpp.
#pragma once

#include "deepseek/backend/cpu/eigen.hpp"
#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/add.hpp"

namespace deepseek {

// to += from, each sum formed in accumulate_t of To and rounded once.
template <class To, class From>
void add_run(index_t n, const From* from, To* to) {
  if constexpr (std::is_floating_point_v<To> && std::is_floating_point_v<From>) {
    as_array(to, n) += as_array(from, n).template cast<To>();
  } else if constexpr (SameLanes<To, From>) {
    simd::along_row<float>(
        n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
          const auto sum = simd::load_wide(to + i, rest) + simd::load_wide(from + i, rest);
          simd::store_narrow(to + i, sum, rest);
        });
  } else {
    using A = accumulate_t<To>;
    for (index_t i = 0; i < n; ++i) {
      to[i] = convert_to<To>(convert_to<A>(to[i]) + convert_to<A>(from[i]));
    }
  }
}

template <class X, class Y>
void add_impl(const cpu& b, const X& x, const Y& y) {
  const auto run = [](index_t n, const auto* from, auto* to) { add_run(n, from, to); };
  if (!unit_rows(x, y)) return add_impl(static_cast<const reference&>(b), x, y);
  for_each_span(b, run, x, y);
}

}  // namespace deepseek
