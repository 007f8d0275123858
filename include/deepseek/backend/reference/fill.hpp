// SPDX-License-Identifier: Apache-2.0
// fill on the reference backend: plain loops; see ops/fill.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

template <class Y>
void fill_impl(const reference&, double value, const Y& y) {
  const auto element = static_cast<typename Y::value_type>(value);
  for (index_t r = 0; r < row_count(y); ++r) {
    const auto row = row_at(y, r);
    for (index_t i = 0; i < row.extent(0); ++i) row(i) = element;
  }
}

}  // namespace deepseek
