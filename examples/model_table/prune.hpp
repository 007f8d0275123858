// SPDX-License-Identifier: Apache-2.0
// What the pruning forms of the list may use beside masks (train/pruning.hpp): what the model's
// layers see on typical text.
#pragma once

#include "table.hpp"

#include "demo/batches.hpp"

namespace model_table {

inline auto typical(const run& r, const base_model& m) {
  ds::activity_of<base_model::net, float> seen;
  demo::batch work;
  for (std::uint32_t i = 0; i < 4; ++i) {
    demo::draw_batch(r.text.train, 12345, i, 16, work);
    ds::observe_activity(r.backend, m, work.input_view(), seen, {.sequences = work.sequences()});
  }
  return seen;
}

}  // namespace model_table
