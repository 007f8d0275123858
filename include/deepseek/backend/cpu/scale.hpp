// SPDX-License-Identifier: Apache-2.0
// scale on the cpu: runs of neighbouring elements, on all threads; see ops/scale.hpp.
#pragma once

#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/scale.hpp"

namespace deepseek {

template <class Y>
void scale_impl(const cpu& b, double factor, const Y& y) requires Widenable<Y> {
  using T = lanes_of<Y>;
  const auto by = simd::pack<T>::broadcast(static_cast<T>(factor));
  const auto run = [by](index_t n, auto* to) {
    simd::along_row<T>(
        n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
          simd::store_narrow(to + i, simd::load_wide(to + i, rest) * by, rest);
        });
  };
  if (!unit_rows(y)) return scale_impl(static_cast<const reference&>(b), factor, y);
  for_each_span(b, run, y);
}

}  // namespace deepseek
