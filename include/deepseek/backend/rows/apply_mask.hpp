// SPDX-License-Identifier: Apache-2.0
// The body of n_of_m_mask for one element (rule in ops/apply_mask.hpp), shared by reference and
// cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/apply_mask.hpp"

#include <cmath>

namespace deepseek {

// x is kept before y: larger, or a NaN.
DEEPSEEK_HOST_DEVICE inline bool kept_before(double x, double y) {
  return x > y || (x != x && y == y);
}

// Whether element i of a row is one of the n of its group of m.
template <class Row>
DEEPSEEK_HOST_DEVICE bool n_of_m_kept(const Row& w, index_t i, const n_of_m& keep) {
  const index_t first = i / keep.m * keep.m;
  const double own = std::fabs(convert_to<double>(w(i)));
  index_t larger = 0;  // of the group, those that are kept before this one
  for (index_t j = first; j < first + keep.m; ++j) {
    const double other = std::fabs(convert_to<double>(w(j)));
    larger += kept_before(other, own) || (j < i && !kept_before(own, other)) ? 1 : 0;
  }
  return larger < keep.n;
}

}  // namespace deepseek
