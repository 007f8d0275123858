// SPDX-License-Identifier: Apache-2.0
// scale_columns on the reference backend: plain loops; see ops/scale_columns.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/scale_columns.hpp"

namespace deepseek {

template <class X, class S, class Y>
void scale_columns_rows(const X& x, const S& s, const Y& y, index_t first, index_t last) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  for (index_t m = first; m < last; ++m) {
    for (index_t k = 0; k < x.extent(1); ++k) {
      y(m, k) = convert_to<T>(convert_to<A>(x(m, k)) * convert_to<A>(s(k)));
    }
  }
}

template <class X, class S, class Y>
void scale_columns_impl(const reference&, const X& x, const S& s, const Y& y) {
  scale_columns_rows(x, s, y, 0, x.extent(0));
}

}  // namespace deepseek
