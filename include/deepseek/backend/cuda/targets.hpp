// SPDX-License-Identifier: Apache-2.0
// count_targets_on(b, targets, rule, counted): how many targets are not ignored, written to the
// device's memory; one that names no column is told to the context (faults.hpp).
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

struct target_rule {
  index_t columns;
  std::int32_t ignore;
  const char* object;
};

namespace cuda_targets {

inline void raise_target(const fault& f) {
  fail(error_code::index_range, f.object, "[", f.position, "] is ", f.value, ", outside 0 .. ",
       f.size - 1, "; pass a column of the logits, or ", f.least, " to leave the row out");
}

template <class Targets>
struct count {
  static constexpr int threads = 1024;
  Targets targets;
  target_rule rule;
  fault_place faults;
  index_t* counted;

  index_t blocks() const { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    index_t mine = 0;
    for (index_t i = block.rank(); i < targets.extent(0); i += threads) {
      const std::int32_t target = targets(i);
      if (target == rule.ignore) continue;
      ++mine;
      if (target >= 0 && target < rule.columns) continue;
      fault f;
      f.position = i;
      f.value = target;
      f.least = rule.ignore;
      f.size = rule.columns;
      f.object = rule.object;
      faults.tell(block, f);
    }
    const index_t all = block.sum(mine);
    if (block.rank() == 0) *counted = all;
  }
};

}  // namespace cuda_targets

template <DeviceBackend B, class Targets>
void count_targets_on(const B& b, const Targets& targets, const target_rule& rule,
                      index_t* counted) {
  b.launch(cuda_targets::count<Targets>{targets, rule,
                                        b.faults().raising(cuda_targets::raise_target), counted});
}

}  // namespace deepseek
