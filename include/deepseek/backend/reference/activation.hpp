// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu on the reference backend, row by row; see ops/activation.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/activation.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class Kind, class X, class Y>
void activation_impl(const reference&, Kind kind, const X& x, const Y& y) {
  for (index_t i = 0; i < row_count(x); ++i) {
    activation_row(serial_team{}, kind, row_at(x, i), row_at(y, i));
  }
}

template <class Kind, class X, class DY, class DX>
void activation_backward_impl(const reference&, Kind kind, const X& x, const DY& dy, const DX& dx) {
  for (index_t i = 0; i < row_count(x); ++i) {
    activation_backward_row(serial_team{}, kind, row_at(x, i), row_at(dy, i), row_at(dx, i));
  }
}

}  // namespace deepseek
