// SPDX-License-Identifier: Apache-2.0
// unfold on the cpu: the reference's loops image by image, on all threads; see ops/unfold.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/unfold.hpp"

namespace deepseek {

template <class X, class Y>
void unfold_impl(const cpu& b, const X& x, const unfold_spec& s, const Y& y) {
  const index_t windows = unfold_windows(x.extent(2), x.extent(3), s).size();
  parallel_rows(b, x.extent(0), 1, [&](index_t first, index_t end) {
    const index_t n = end - first;
    unfold_impl(static_cast<const reference&>(b), rows(x, first, n), s,
                rows(y, first * windows, n * windows));
  });
}

template <class DY, class DX>
void unfold_backward_impl(const cpu& b, const DY& dy, const unfold_spec& s, const DX& dx) {
  const index_t windows = unfold_windows(dx.extent(2), dx.extent(3), s).size();
  parallel_rows(b, dx.extent(0), 1, [&](index_t first, index_t end) {
    const index_t n = end - first;
    unfold_backward_impl(static_cast<const reference&>(b), rows(dy, first * windows, n * windows),
                         s, rows(dx, first, n));
  });
}

}  // namespace deepseek
