// SPDX-License-Identifier: Apache-2.0
// move_load and move_bias on the device: one block; see ops/load_state.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/load_state.hpp"
#include "deepseek/ops/load_state.hpp"

namespace deepseek {

namespace cuda_load_state {
template <class Counts, class Load>
struct load_move {
  Counts counts;
  double decay;
  Load load;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t) const {
    move_load_row(team, counts, decay, load);
  }
};
template <class Counts, class Bias>
struct bias_move {
  Counts counts;
  double step;
  Bias bias;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t) const {
    move_bias_row(team, counts, step, bias);
  }
};
}  // namespace cuda_load_state

template <DeviceBackend B, class Counts, class Load>
void move_load_impl(const B& b, const Counts& counts, double decay, const Load& load) {
  run_each_row(b, 1, load.extent(0), cuda_load_state::load_move<Counts, Load>{counts, decay, load});
}
template <DeviceBackend B, class Counts, class Bias>
void move_bias_impl(const B& b, const Counts& counts, double step, const Bias& bias) {
  run_each_row(b, 1, bias.extent(0), cuda_load_state::bias_move<Counts, Bias>{counts, step, bias});
}

}  // namespace deepseek
