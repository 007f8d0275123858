// SPDX-License-Identifier: Apache-2.0
// row_place: the row that stands for a position t in a table of rows. Row n = t / ratio, where a
// row stands for `ratio` positions; in a ring of R rows, which later positions use again, every row
// is kept twice, in 2 R rows: number n in the rows n mod R and R + n mod R. So the last R numbers
// are neighbours: they end in row(t), which is n below 2 R, else R + n mod R.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/space.hpp"

namespace deepseek {

struct row_place {
  index_t ratio = 1;  // positions of a row, >= 1
  index_t ring = 0;   // R; 0: every number has a row of its own

  // Where readers find it, the rows of the numbers before it in front of it.
  DEEPSEEK_HOST_DEVICE constexpr index_t row(index_t t) const {
    const index_t n = t / ratio;
    return ring == 0 || n < 2 * ring ? n : ring + n % ring;
  }
  // The rows that hold it: the first, and the second, which is the first where there is no ring.
  DEEPSEEK_HOST_DEVICE constexpr index_t first(index_t t) const {
    return ring == 0 ? t / ratio : t / ratio % ring;
  }
  DEEPSEEK_HOST_DEVICE constexpr index_t second(index_t t) const { return first(t) + ring; }
};

inline void require_place(const row_place& place, const char* op) {
  require(place.ratio >= 1 && place.ring >= 0, error_code::invalid_argument, op, ": ratio is ",
          place.ratio, ", ring is ", place.ring, "; pass a ratio >= 1 and a ring >= 0");
}

}  // namespace deepseek
