// SPDX-License-Identifier: Apache-2.0
// unless_fault(b, f): f, for run_each_element, run_each_row and run_each_row_element, where no
// kernel before it found a fault (faults.hpp): nothing is read or written through an index that
// does not exist.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"

namespace deepseek {

template <class F>
struct guarded_by_faults {
  fault_place faults;
  F f;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (!faults.found()) f(i);
  }
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (!faults.found()) f(team, row);
  }
};

template <DeviceBackend B, class F>
guarded_by_faults<F> unless_fault(const B& b, const F& f) {
  return {b.faults(), f};
}

}  // namespace deepseek
