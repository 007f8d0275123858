// SPDX-License-Identifier: Apache-2.0
// move_load and move_bias on the reference backend; see ops/load_state.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/load_state.hpp"
#include "deepseek/ops/load_state.hpp"

namespace deepseek {

template <class Counts, class Load>
void move_load_impl(const reference&, const Counts& counts, double decay, const Load& load) {
  move_load_row(serial_team{}, counts, decay, load);
}
template <class Counts, class Bias>
void move_bias_impl(const reference&, const Counts& counts, double step, const Bias& bias) {
  move_bias_row(serial_team{}, counts, step, bias);
}

}  // namespace deepseek
