// SPDX-License-Identifier: Apache-2.0
// Indices from outside are checked before anything is written: index_range names the position.
#pragma once

#include "deepseek/core/backend.hpp"

namespace deepseek {

inline constexpr index_t absent_index = -1;  // names nothing, where an op says that it may

// Every element of ids [n] or [n, k] must be in 0 .. size - 1, or from `least` on. Cost: one pass.
template <class Ids>
void require_indices(const Ids& ids, index_t size, const char* object, index_t least = 0) {
  static_assert(Ids::rank == 1 || Ids::rank == 2);
  const char* or_absent = least < 0 ? " (or -1)" : "";
  for (index_t i = 0; i < ids.extent(0); ++i) {
    if constexpr (Ids::rank == 1) {
      const auto id = ids(i);
      require(id >= least && id < size, error_code::index_range, object, "[", i, "] is ", id,
              ", outside 0 .. ", size - 1, or_absent, "; pass indices of the ", size,
              " that exist");
    } else {
      for (index_t k = 0; k < ids.extent(1); ++k) {
        const auto id = ids(i, k);
        require(id >= least && id < size, error_code::index_range, object, "[", i, ", ", k, "] is ",
                id, ", outside 0 .. ", size - 1, or_absent, "; pass indices of the ", size,
                " that exist");
      }
    }
  }
}

}  // namespace deepseek
