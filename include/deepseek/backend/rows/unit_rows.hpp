// SPDX-License-Identifier: Apache-2.0
// The row bodies of unit_rows (formulas in ops/unit_rows.hpp), shared by reference and cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/large_row.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"

#include <cmath>

namespace deepseek {

// The sum of term(i), i < n: elements of a worker one after the other, then the team.
template <class A, class Team, class Term>
DEEPSEEK_HOST_DEVICE A plain_row_sum(const Team& team, index_t n, const Term& term) {
  A sum = 0;
  for (index_t i = team.rank(); i < n; i += team.size()) sum += term(i);
  return team.sum(sum);
}

// The length that the row was divided by.
template <class Team, class X, class Y>
DEEPSEEK_HOST_DEVICE auto unit_row(const Team& team, const X& x, const Y& y, double eps) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  const index_t n = x.extent(0);
  A unit = 1;
  const auto squares = [&] {
    return plain_row_sum<A>(team, n, [&](index_t d) {
      const A v = convert_to<A>(x(d)) * unit;
      return v * v;
    });
  };
  A sum = squares();
  if (!sum_holds(sum)) {
    unit = large_row_scale<A>;
    sum = squares();
  }
  const A least = static_cast<A>(eps) * unit, length = std::sqrt(sum);
  const A by = length < least ? least : length;  // NaN stays
  for (index_t d = team.rank(); d < n; d += team.size())
    y(d) = convert_to<T>(convert_to<A>(x(d)) * unit / by);
  return by / unit;
}

template <class Team, class Y, class DY, class DX, class A>
DEEPSEEK_HOST_DEVICE void unit_backward_row(const Team& team, const Y& y, const DY& dy,
                                            const DX& dx, A norm) {
  using T = typename DX::value_type;
  const index_t n = y.extent(0);
  const A along_y = plain_row_sum<A>(
      team, n, [&](index_t d) { return convert_to<A>(y(d)) * convert_to<A>(dy(d)); });
  const A squares = plain_row_sum<A>(
      team, n, [&](index_t d) { return convert_to<A>(y(d)) * convert_to<A>(y(d)); });
  const A along = squares < A(0.9) ? A(0) : along_y;  // the row was shorter than eps
  for (index_t d = team.rank(); d < n; d += team.size()) {
    const A across = convert_to<A>(dy(d)) - convert_to<A>(y(d)) * along;
    dx(d) = convert_to<T>(across / norm);
  }
}

}  // namespace deepseek
