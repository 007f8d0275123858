// SPDX-License-Identifier: Apache-2.0
// compressed<M>: keys are entries, entry k standing for positions M k .. M k + M - 1. Query q sees
// the entries that are complete at q, itself among their positions: k < floor((q + 1) / M).
// Cost of a query: the entries it sees. Source: DeepSeek-V4's published inference code as ported by
// others.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t M>
struct compressed {
  static_assert(M >= 1, "deepseek::compressed: an entry stands for no position; write M >= 1");
  static constexpr reach sees = reach::past;

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    return k < complete(q);
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    if (t.k0 >= complete(t.q1 - 1)) return coverage::none;
    return t.k1 <= complete(t.q0) ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t, index_t q1, index_t from) {
    const index_t last = complete(q1 - 1);
    return from < last ? key_span{from, last} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    return span_bits(0, complete(q), k0);
  }
  // Entries complete at position q: 0 before the first.
  DEEPSEEK_HOST_DEVICE static constexpr index_t complete(index_t q) {
    return q < 0 ? 0 : (q + 1) / M;
  }
};

}  // namespace deepseek
