// SPDX-License-Identifier: Apache-2.0
// expert_sequences: where each sequence begins among the rows that each expert got. The plan's
// offsets [E + 1] and source [R] (ops/expert_plan.hpp), K choices a token, sequences as offsets
// [B + 1] of tokens -> starts [E, B + 1] int32, counted from the expert's first row: rows
// starts[e, q] .. starts[e, q + 1] - 1 of expert e belong to sequence q. A token keeps its order,
// so that a layer which mixes rows (attention) runs on packed sequences of what the expert got.
// Errors: offsets, shape_mismatch, invalid_argument. Cost: R + E B steps.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/argument.hpp"

namespace deepseek {

template <class O, class So>
struct expert_rows {
  O offsets;            // [E + 1]
  So source;            // [R]
  index_t choices = 1;  // K
};
template <class O, class So>
expert_rows(O&&, So&&, index_t) -> expert_rows<argument_t<O>, argument_t<So>>;

struct expert_sequences_op {
  static constexpr std::string_view name = "expert_sequences";

  template <class B, class O, class So, class Starts>
  void operator()(const B& b, const expert_rows<O, So>& in,
                  const sequence_offsets<typename B::space>& sequences, Starts&& starts_in) const {
    const auto offsets = as_const(as_view(in.offsets));
    const auto source = as_const(as_view(in.source));
    const auto starts = as_view(starts_in);
    check_spaces(b, offsets, source, starts);
    static_assert(offsets.rank == 1 && source.rank == 1 && starts.rank == 2,
                  "deepseek::expert_sequences: pass {offsets[E + 1], source[R], K}, sequences "
                  "[B + 1] and starts[E, B + 1]");
    require(in.choices >= 1, error_code::invalid_argument, "expert_sequences: K is ", in.choices,
            "; pass how many experts a token chooses, at least 1");
    require_extent(offsets, 0, starts.extent(0) + 1, "expert_sequences: offsets");
    require_extent(sequences, 0, starts.extent(1), "expert_sequences: sequences");
    require_data(offsets, "expert_sequences: offsets");
    require_data(source, "expert_sequences: source");
    require_data(sequences, "expert_sequences: sequences");
    require_data(starts, "expert_sequences: starts");
    if (starts.empty()) return;
    expert_sequences_impl(b, expert_rows{offsets, source, in.choices}, sequences, starts);
  }
};

namespace ops {
inline constexpr expert_sequences_op expert_sequences{};
}

}  // namespace deepseek
