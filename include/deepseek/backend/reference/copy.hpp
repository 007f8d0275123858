// SPDX-License-Identifier: Apache-2.0
// copy on the reference backend: plain loops; see ops/copy.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/copy.hpp"

namespace deepseek {

template <class X, class Y>
void copy_impl(const reference&, const X& x, const Y& y) {
  for (index_t r = 0; r < row_count(y); ++r) {
    const auto from = row_at(x, r);
    const auto to = row_at(y, r);
    for (index_t i = 0; i < to.extent(0); ++i) to(i) = convert_to<typename Y::value_type>(from(i));
  }
}

}  // namespace deepseek
