// SPDX-License-Identifier: Apache-2.0
// add on the reference backend: plain loops; see ops/add.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/add.hpp"

namespace deepseek {

template <class X, class Y>
void add_impl(const reference&, const X& x, const Y& y) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  for (index_t r = 0; r < row_count(y); ++r) {
    const auto from = row_at(x, r);
    const auto to = row_at(y, r);
    for (index_t i = 0; i < to.extent(0); ++i) {
      to(i) = convert_to<T>(convert_to<A>(to(i)) + convert_to<A>(from(i)));
    }
  }
}

}  // namespace deepseek
