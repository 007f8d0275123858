// SPDX-License-Identifier: Apache-2.0
// The bodies of unfold for one element (formulas in ops/unfold.hpp), shared by reference and cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/unfold.hpp"

namespace deepseek {

// Windows r along an axis with r step <= at < r step + size: the first, and one past the last.
struct window_range {
  index_t first, end;
};
DEEPSEEK_HOST_DEVICE constexpr window_range windows_at(index_t at, index_t size, index_t step,
                                                       index_t count) {
  const index_t first = at < size ? 0 : (at - size) / step + 1;
  return {first, at / step + 1 < count ? at / step + 1 : count};
}

// The sum for element (c, h, w) of an image whose windows are the rows of `windows`.
template <class A, class DY>
DEEPSEEK_HOST_DEVICE A folded_sum(const DY& windows, const unfold_grid& grid, const unfold_spec& s,
                                  const index_t (&at)[3]) {
  const auto down = windows_at(at[1], s.height, s.down, grid.down);
  const auto across = windows_at(at[2], s.width, s.across, grid.across);
  A sum = 0;
  for (index_t r = down.first; r < down.end; ++r) {
    for (index_t w = across.first; w < across.end; ++w) {
      const index_t u = at[1] - r * s.down, v = at[2] - w * s.across;
      sum += convert_to<A>(windows(r * grid.across + w, (at[0] * s.height + u) * s.width + v));
    }
  }
  return sum;
}

}  // namespace deepseek
