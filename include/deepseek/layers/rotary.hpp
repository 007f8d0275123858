// SPDX-License-Identifier: Apache-2.0
// What attention layers share of the rotary embedding: heads turned in place by the positions of
// their rows. Dynamic NTK scaling needs the length L of the sequence: options.sequence_length, or,
// where that is 0, the end of the call. All rows of a call turn by the same L; keys in a cache keep
// the L of the call that wrote them. So beyond original_length, prefill equals decoding only with
// one sequence_length for all calls; several sequences in one call need it, too.
#pragma once

#include "deepseek/layers/row_positions.hpp"
#include "deepseek/ops/rope.hpp"

namespace deepseek {

enum class rotary { none, half, interleaved };

constexpr rope_layout layout_of(rotary r) {
  return r == rotary::half ? rope_layout::half : rope_layout::interleaved;
}

template <class Call>
index_t rotary_length(const Call& c, index_t rows) {
  if (c.options.sequence_length != 0) return c.options.sequence_length;
  require(c.options.sequences.extent(0) <= 2, error_code::config, "rope: dynamic_ntk scaling of ",
          c.options.sequences.extent(0) - 1, " sequences in one call; set options.sequence_length");
  require(!c.options.moving.moves(), error_code::unsupported,
          "rope: dynamic_ntk scaling turns by a length that moves; set options.sequence_length");
  return std::max<index_t>(c.options.start + rows, 1);
}

// Each view is [tokens, heads, dim].
template <class Call, class First, class... More>
void rotate(const Call& c, rope_spec how, const First& first, const More&... more) {
  const scope freed(c.scratch);
  auto at = c.scratch.template make<std::int32_t, dyn>(first.extent(0));
  row_positions(c, at);
  if (depends_on_length(how.scaling)) how.length = rotary_length(c, first.extent(0));
  ops::rope(c.backend, first, at, first, how);
  (ops::rope(c.backend, more, at, more, how), ...);
}

}  // namespace deepseek
