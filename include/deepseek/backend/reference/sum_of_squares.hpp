// SPDX-License-Identifier: Apache-2.0
// sum_of_squares on the reference backend: plain loops; see ops/sum_of_squares.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/sum_of_squares.hpp"

#include <cmath>

namespace deepseek {

// The order of the sum, written down once: every host backend goes through it.
struct square_lanes {
  static constexpr index_t count = 16, chunk = 4096;
  double lane[count] = {};

  void add(index_t e, double x) { lane[e % count] = std::fma(x, x, lane[e % count]); }
  double total() {
    for (index_t half = count / 2; half > 0; half /= 2) {
      for (index_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
  }
};

template <class X>
double sum_of_squares_impl(const reference&, const X& x) {
  square_lanes lanes;
  double sum = 0;
  index_t e = 0;
  for (index_t r = 0; r < row_count(x); ++r) {
    const auto row = row_at(x, r);
    for (index_t i = 0; i < row.extent(0); ++i) {
      lanes.add(e, convert_to<double>(row(i)));
      if (++e % square_lanes::chunk == 0) {
        sum += lanes.total();
        lanes = {};
      }
    }
  }
  return e % square_lanes::chunk == 0 ? sum : sum + lanes.total();
}

}  // namespace deepseek
