// SPDX-License-Identifier: Apache-2.0
// unit_rows on host backends; see ops/unit_rows.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/unit_rows.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

template <class X, class Y, class N>
void unit_rows_impl(const reference&, const X& x, const Y& y, const N& norms, double eps) {
  using A = accumulate_t<typename Y::value_type>;
  for (index_t i = 0; i < x.extent(0); ++i) {
    A sum = 0;
    for (index_t d = 0; d < x.extent(1); ++d) {
      sum += convert_to<A>(x(i, d)) * convert_to<A>(x(i, d));
    }
    const A n = std::max(std::sqrt(sum), static_cast<A>(eps));
    norms(i) = convert_to<typename N::value_type>(n);
    for (index_t d = 0; d < x.extent(1); ++d) {
      y(i, d) = convert_to<typename Y::value_type>(convert_to<A>(x(i, d)) / n);
    }
  }
}

template <class Y, class N, class DY, class DX>
void unit_rows_backward_impl(const reference&, const Y& y, const N& norms, const DY& dy,
                             const DX& dx) {
  using A = accumulate_t<typename DX::value_type>;
  for (index_t i = 0; i < y.extent(0); ++i) {
    A along = 0, length = 0;
    for (index_t d = 0; d < y.extent(1); ++d) {
      along += convert_to<A>(y(i, d)) * convert_to<A>(dy(i, d));
      length += convert_to<A>(y(i, d)) * convert_to<A>(y(i, d));
    }
    const A n = convert_to<A>(norms(i));
    if (length < A(0.9)) along = 0;  // the row was shorter than eps
    for (index_t d = 0; d < y.extent(1); ++d) {
      const A across = convert_to<A>(dy(i, d)) - convert_to<A>(y(i, d)) * along;
      dx(i, d) = convert_to<typename DX::value_type>(across / n);
    }
  }
}

}  // namespace deepseek
