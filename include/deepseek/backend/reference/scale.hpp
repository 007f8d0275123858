// SPDX-License-Identifier: Apache-2.0
// scale on the reference backend: plain loops; see ops/scale.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/scale.hpp"

namespace deepseek {

template <class Y>
void scale_impl(const reference&, double factor, const Y& y) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  const A by = static_cast<A>(factor);
  for (index_t r = 0; r < row_count(y); ++r) {
    const auto row = row_at(y, r);
    for (index_t i = 0; i < row.extent(0); ++i) row(i) = convert_to<T>(by * convert_to<A>(row(i)));
  }
}

}  // namespace deepseek
