// SPDX-License-Identifier: Apache-2.0
// place_rows on the reference backend: plain loops; see ops/place_rows.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/place_rows.hpp"

namespace deepseek {

template <class X, class First, class Y>
void place_rows_impl(const reference&, const X& x, const First& first, const Y& y,
                     const row_place& place) {
  const index_t at = first(0), last = place_rows_op::starts(x.extent(0), y.extent(0), place) - 1;
  require(at >= 0 && at <= last, error_code::index_range, "place_rows: first[0] is ", at,
          ", outside 0 .. ", last, "; pass indices of the ", last + 1, " that exist");
  for (index_t i = 0; i < x.extent(0); ++i) {
    for (index_t j = 0; j < x.extent(1); ++j) {
      const auto value = convert_to<typename Y::value_type>(x(i, j));
      y(place.first(at + i), j) = value;
      if (place.ring > 0) y(place.second(at + i), j) = value;
    }
  }
}

}  // namespace deepseek
