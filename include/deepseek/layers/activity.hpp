// SPDX-License-Identifier: Apache-2.0
// What the inputs of linear layers amount to, column by column, over any number of runs:
//   absolute_j = sum over rows |x_j|,   squares_j = sum x_j^2,   rows counted; per expert in a
//   stack.
// Pruning by activity reads them: a neuron of a feed-forward is a column of its second linear.
//   ds::activity_of<net> seen;   ds::observe_activity(b, m, tokens, seen);
// Host memory. Sums in double, rows in order. Errors: nonfinite (an input).
#pragma once

#include "deepseek/core/call.hpp"

#include <cmath>
#include <vector>

namespace deepseek {

// A kind of kept things (core/keep.hpp): layers that have some name it `activity<T, S>`.
struct for_activity {
  static constexpr bool gathers = true;
  template <class Layer, class T, class S>
  using of = typename Layer::template activity<T, S>;
};
template <class K>
inline constexpr bool keeps_activity =
    std::is_same_v<typename std::remove_cvref_t<K>::kind, for_activity>;

struct column_activity {
  std::vector<double> absolute, squares;  // [experts, columns], one expert where there is no stack
  std::vector<index_t> rows;              // [experts]; empty: nothing was seen

  index_t columns() const {
    return rows.empty() ? 0 : static_cast<index_t>(absolute.size() / rows.size());
  }
  void reserve(index_t experts, index_t columns) {
    if (!rows.empty()) return;
    rows.assign(static_cast<std::size_t>(experts), 0);
    absolute.assign(static_cast<std::size_t>(experts * columns), 0.0);
    squares = absolute;
  }
  // Rows first .. last - 1 of x are of this expert.
  template <class X>
  void add(index_t expert, const X& x, index_t first, index_t last) {
    const index_t width = x.extent(1);
    double* a = absolute.data() + expert * width;
    double* s = squares.data() + expert * width;
    for (index_t n = first; n < last; ++n) {
      for (index_t j = 0; j < width; ++j) {
        const double value = static_cast<double>(x(n, j));
        require(std::isfinite(value), error_code::nonfinite, "activity: input[", n, ", ", j,
                "] is ", value, "; observe data for which the model is finite");
        a[j] += std::fabs(value);
        s[j] += value * value;
      }
    }
    rows[static_cast<std::size_t>(expert)] += last - first;
  }
};

// All rows of x, or those of each segment of a stack: offsets [experts + 1] or none.
template <class X, class Offsets>
void observe_columns(const X& x, const Offsets& offsets, column_activity& seen) {
  static_assert(std::is_same_v<typename X::space, host>,
                "deepseek::activity: observing runs on a host backend; observe on ds::cpu");
  if constexpr (is_view<Offsets>) {
    const index_t experts = offsets.extent(0) - 1;
    seen.reserve(experts, x.extent(1));
    for (index_t e = 0; e < experts; ++e) seen.add(e, x, offsets(e), offsets(e + 1));
  } else {
    seen.reserve(1, x.extent(1));
    seen.add(0, x, 0, x.extent(0));
  }
}

template <class Net, class T = float, class S = host>
using activity_of = keep<for_activity, Net, T, S>;

}  // namespace deepseek
