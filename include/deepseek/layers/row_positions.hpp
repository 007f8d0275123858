// SPDX-License-Identifier: Apache-2.0
// The positions of a call's rows: from options.start on, or from the start that moves.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/positions.hpp"

namespace deepseek {

template <class Call, class At>
void row_positions(const Call& c, const At& at) {
  if (c.options.moving.moves()) {
    ops::positions(c.backend, c.options.moving.at, c.options.sequences, at);
  } else {
    ops::positions(c.backend, c.options.start, c.options.sequences, at);
  }
}

}  // namespace deepseek
