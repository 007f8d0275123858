// SPDX-License-Identifier: Apache-2.0
// expert_sequences on the reference backend: plain loops; see ops/expert_sequences.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/expert_sequences.hpp"

namespace deepseek {

template <class O, class So, class Sequences, class Starts>
void expert_sequences_impl(const reference&, const expert_rows<O, So>& in,
                           const Sequences& sequences, const Starts& starts) {
  require_offsets(in.offsets, in.source.extent(0), "expert_sequences: offsets");
  for (index_t e = 0; e < starts.extent(0); ++e) {
    index_t row = in.offsets(e);
    for (index_t q = 0; q < starts.extent(1); ++q) {
      while (row < in.offsets(e + 1) && in.source(row) / in.choices < sequences(q)) ++row;
      starts(e, q) = static_cast<typename Starts::value_type>(row - in.offsets(e));
    }
    const index_t last = starts.extent(1) - 1, rows = in.offsets(e + 1) - in.offsets(e);
    require(starts(e, 0) == 0 && starts(e, last) == rows, error_code::offsets,
            "expert_sequences: sequences hold tokens ", sequences(0), " .. ", sequences(last) - 1,
            " but expert ", e, " got others; pass offsets from 0 to the number of tokens");
  }
}

}  // namespace deepseek
