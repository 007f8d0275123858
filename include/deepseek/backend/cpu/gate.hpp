// SPDX-License-Identifier: Apache-2.0
// softmax_gate on the cpu: the reference rows, in parallel over fixed chunks of tokens.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/gate.hpp"

#include <algorithm>

namespace deepseek {

inline constexpr index_t gate_chunk = 128;  // tokens per task

template <class F>
void for_each_gate_row(const cpu& b, index_t tokens, const F& row) {
  b.parallel((tokens + gate_chunk - 1) / gate_chunk, [&](index_t chunk) {
    const index_t end = std::min(tokens, (chunk + 1) * gate_chunk);
    for (index_t t = chunk * gate_chunk; t < end; ++t) row(t);
  });
}

template <class P, class W, class I>
void softmax_gate_impl(const cpu& b, const P& scores, const W& weights, const I& ids,
                       renormalize norm) {
  for_each_gate_row(b, scores.extent(0),
                    [&](index_t t) { softmax_gate_row(scores, weights, ids, t, norm); });
}
template <class Saved, class DW, class DS>
void softmax_gate_backward_impl(const cpu& b, const Saved& in, const DW& dweights,
                                const DS& dscores, renormalize norm) {
  for_each_gate_row(b, dscores.extent(0),
                    [&](index_t t) { softmax_gate_backward_row(in, dweights, dscores, t, norm); });
}

}  // namespace deepseek
