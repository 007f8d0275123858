// SPDX-License-Identifier: Apache-2.0
// Indices from outside are checked before anything is written: index_range names the position.
#pragma once

#include "deepseek/core/backend.hpp"

namespace deepseek {

// Every element of ids [n] or [n, k] must be in 0 .. size - 1. Cost: one pass over ids.
template <class Ids>
void require_indices(const Ids& ids, index_t size, const char* object) {
  static_assert(Ids::rank == 1 || Ids::rank == 2);
  for (index_t i = 0; i < ids.extent(0); ++i) {
    if constexpr (Ids::rank == 1) {
      const auto id = ids(i);
      require(id >= 0 && id < size, error_code::index_range, object, "[", i, "] is ", id,
              ", outside 0 .. ", size - 1, "; pass indices of the ", size, " that exist");
    } else {
      for (index_t k = 0; k < ids.extent(1); ++k) {
        const auto id = ids(i, k);
        require(id >= 0 && id < size, error_code::index_range, object, "[", i, ", ", k, "] is ", id,
                ", outside 0 .. ", size - 1, "; pass indices of the ", size, " that exist");
      }
    }
  }
}

}  // namespace deepseek
