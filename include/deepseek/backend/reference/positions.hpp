// SPDX-License-Identifier: Apache-2.0
// positions on the reference backend; see ops/positions.hpp. The offsets are checked before
// anything is written.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/positions.hpp"

namespace deepseek {

template <class Start, class Offsets, class Out>
void positions_impl(const reference&, const Start& from, const Offsets& offsets, const Out& out,
                    index_t step, const row_place& place) {
  const index_t tokens = out.extent(0), start = number_of(from);
  if (!offsets.empty()) require_offsets(offsets, tokens, "positions: offsets");
  index_t begin = 0, sequence = 0;
  for (index_t i = 0; i < tokens; ++i) {
    while (!offsets.empty() && offsets(sequence + 1) <= i) begin = offsets(++sequence);
    out(i) = static_cast<std::int32_t>(step * place.row(start + (i - begin)));
  }
}

}  // namespace deepseek
