// SPDX-License-Identifier: Apache-2.0
// written_reach: how far a decoder may go back. Layers that keep the last rows alone say so in
// their state, `static constexpr index_t rewinds`: a call then begins at position 0, or at most so
// many before the furthest position that was ever written since (rows of later positions stand
// where older ones stood). Errors: index_range.
#pragma once

#include "deepseek/core/call.hpp"

#include <limits>

namespace deepseek {

struct written_reach : written_positions {
  index_t rewinds = std::numeric_limits<index_t>::max();

  // What the states of a net allow.
  template <class K>
  static written_reach of(K& kept) {
    written_reach least;
    visit_kept(
        [&](auto& own) -> decltype(static_cast<void>(own.rewinds)) {
          least.rewinds = std::min<index_t>(least.rewinds, own.rewinds);
        },
        kept);
    return least;
  }
  // Whether a call may begin there.
  void require_reached(index_t start) const {
    require(start == 0 || end - start <= rewinds, error_code::index_range, "decoder: position ",
            start, " after ", end,
            " positions; layers keep the last rows: go on there, begin at 0 or take back at most ",
            rewinds);
  }
};

}  // namespace deepseek
