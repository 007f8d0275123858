// SPDX-License-Identifier: Apache-2.0
// unit_rows on host backends; see ops/unit_rows.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/unit_rows.hpp"
#include "deepseek/ops/unit_rows.hpp"

namespace deepseek {

template <class X, class Y, class N>
void unit_rows_impl(const reference&, const X& x, const Y& y, const N& norms, double eps) {
  for (index_t i = 0; i < x.extent(0); ++i) {
    const auto norm = unit_row(serial_team{}, slice(x, i), slice(y, i), eps);
    norms(i) = convert_to<typename N::value_type>(norm);
  }
}

template <class Y, class N, class DY, class DX>
void unit_rows_backward_impl(const reference&, const Y& y, const N& norms, const DY& dy,
                             const DX& dx) {
  using A = accumulate_t<typename DX::value_type>;
  for (index_t i = 0; i < y.extent(0); ++i) {
    unit_backward_row(serial_team{}, slice(y, i), slice(dy, i), slice(dx, i),
                      convert_to<A>(norms(i)));
  }
}

}  // namespace deepseek
