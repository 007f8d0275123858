// SPDX-License-Identifier: Apache-2.0
// unfold on the reference backend: plain loops; see ops/unfold.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/unfold.hpp"

namespace deepseek {

// One window [channels, height, width] into its row.
template <class X, class Row>
void unfold_window(const X& image, index_t top, index_t left, const unfold_spec& s,
                   const Row& row) {
  index_t column = 0;
  for (index_t c = 0; c < image.extent(0); ++c) {
    for (index_t u = 0; u < s.height; ++u) {
      for (index_t v = 0; v < s.width; ++v) {
        row(column++) = convert_to<typename Row::value_type>(image(c, top + u, left + v));
      }
    }
  }
}

template <class X, class Y>
void unfold_impl(const reference&, const X& x, const unfold_spec& s, const Y& y) {
  const auto grid = unfold_windows(x.extent(2), x.extent(3), s);
  index_t row = 0;
  for (index_t i = 0; i < x.extent(0); ++i) {
    for (index_t r = 0; r < grid.down; ++r) {
      for (index_t w = 0; w < grid.across; ++w) {
        unfold_window(slice(x, i), r * s.down, w * s.across, s, slice(y, row++));
      }
    }
  }
}

template <class DY, class DX>
void unfold_backward_impl(const reference&, const DY& dy, const unfold_spec& s, const DX& dx) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  const auto grid = unfold_windows(dx.extent(2), dx.extent(3), s);
  for (index_t i = 0; i < dx.extent(0); ++i) {
    const auto windows = rows(dy, i * grid.size(), grid.size());
    for (index_t c = 0; c < dx.extent(1); ++c) {
      for (index_t h = 0; h < dx.extent(2); ++h) {
        for (index_t w = 0; w < dx.extent(3); ++w) {
          dx(i, c, h, w) = convert_to<T>(folded_sum<A>(windows, grid, s, {c, h, w}));
        }
      }
    }
  }
}

}  // namespace deepseek
