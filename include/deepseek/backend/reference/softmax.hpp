// SPDX-License-Identifier: Apache-2.0
// softmax on the reference backend: the row bodies one after the other; see ops/softmax.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/softmax.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

template <class X, class Y>
void softmax_impl(const reference&, const X& x, const Y& y) {
  for (index_t i = 0; i < x.extent(0); ++i) softmax_row(serial_team{}, slice(x, i), slice(y, i));
}

template <class Y, class DY, class DX>
void softmax_backward_impl(const reference&, const Y& y, const DY& dy, const DX& dx) {
  for (index_t i = 0; i < y.extent(0); ++i) {
    softmax_backward_row(serial_team{}, slice(y, i), slice(dy, i), slice(dx, i));
  }
}

}  // namespace deepseek
