// SPDX-License-Identifier: Apache-2.0
// positions on the reference backend; see ops/positions.hpp. The offsets are checked before
// anything is written.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/positions.hpp"

namespace deepseek {

template <class Offsets>
void require_offsets(const Offsets& offsets, index_t tokens) {
  const index_t last = offsets.extent(0) - 1;
  require(offsets(0) == 0, error_code::offsets, "positions: offsets[0] is ", offsets(0),
          "; the first sequence begins at 0");
  for (index_t i = 0; i < last; ++i) {
    require(offsets(i) <= offsets(i + 1), error_code::offsets, "positions: offsets[", i, "] is ",
            offsets(i), ", offsets[", i + 1, "] is ", offsets(i + 1),
            "; a sequence ends at or after its begin");
  }
  require(offsets(last) == tokens, error_code::offsets, "positions: offsets[", last, "] is ",
          offsets(last), " for ", tokens, " tokens; the last sequence ends at the last token");
}

template <class Offsets, class Out>
void positions_impl(const reference&, index_t start, const Offsets& offsets, const Out& out,
                    index_t step) {
  const index_t tokens = out.extent(0);
  if (!offsets.empty()) require_offsets(offsets, tokens);
  index_t begin = 0, sequence = 0;
  for (index_t i = 0; i < tokens; ++i) {
    while (!offsets.empty() && offsets(sequence + 1) <= i) begin = offsets(++sequence);
    out(i) = static_cast<std::int32_t>(step * (start + (i - begin)));
  }
}

}  // namespace deepseek
