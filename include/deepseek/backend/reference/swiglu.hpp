// SPDX-License-Identifier: Apache-2.0
// swiglu on the reference backend, row by row; see ops/swiglu.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/activation.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/swiglu.hpp"

namespace deepseek {

template <class Gate, class Up, class Y>
void swiglu_impl(const reference&, const Gate& gate, const Up& up, const Y& y) {
  for (index_t i = 0; i < row_count(gate); ++i) {
    swiglu_row(serial_team{}, row_at(gate, i), row_at(up, i), row_at(y, i));
  }
}

template <class In, class DY, class Out>
void swiglu_backward_impl(const reference&, const In& in, const DY& dy, const Out& out) {
  for (index_t i = 0; i < row_count(dy); ++i) {
    const swiglu_inputs inputs{row_at(in.gate, i), row_at(in.up, i)};
    const swiglu_gradients gradients{row_at(out.dgate, i), row_at(out.dup, i)};
    swiglu_backward_row(serial_team{}, inputs, row_at(dy, i), gradients);
  }
}

}  // namespace deepseek
