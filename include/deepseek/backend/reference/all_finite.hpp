// SPDX-License-Identifier: Apache-2.0
// all_finite on the reference backend: plain loops; see ops/all_finite.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/all_finite.hpp"

#include <cmath>

namespace deepseek {

template <class X>
bool all_finite_impl(const reference&, const X& x) {
  for (index_t r = 0; r < row_count(x); ++r) {
    const auto row = row_at(x, r);
    for (index_t i = 0; i < row.extent(0); ++i) {
      if (!std::isfinite(convert_to<double>(row(i)))) return false;
    }
  }
  return true;
}

}  // namespace deepseek
