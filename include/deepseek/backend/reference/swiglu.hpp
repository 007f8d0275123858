// SPDX-License-Identifier: Apache-2.0
// swiglu on the reference backend, row by row; see ops/swiglu.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/activation.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/swiglu.hpp"

namespace deepseek {

template <class In>
auto swiglu_inputs_at(const In& in, index_t i) {
  return swiglu_inputs{row_at(in.gate, i), row_at(in.up, i)};
}

template <class In, class Y>
void swiglu_impl(const reference&, const In& in, const Y& y, double limit) {
  for (index_t i = 0; i < row_count(y); ++i) {
    swiglu_row(serial_team{}, swiglu_inputs_at(in, i), row_at(y, i), limit);
  }
}

template <class In, class DY, class Out>
void swiglu_backward_impl(const reference&, const In& in, const DY& dy, const Out& out,
                          double limit) {
  for (index_t i = 0; i < row_count(dy); ++i) {
    const swiglu_gradients gradients{row_at(out.dgate, i), row_at(out.dup, i)};
    swiglu_backward_row(serial_team{}, swiglu_inputs_at(in, i), row_at(dy, i), gradients, limit);
  }
}

}  // namespace deepseek
