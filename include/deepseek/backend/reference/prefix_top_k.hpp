// SPDX-License-Identifier: Apache-2.0
// prefix_top_k on the reference backend: the best so far, kept sorted, and each query's copy of it
// in the order of positions; see ops/prefix_top_k.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/top_k.hpp"
#include "deepseek/ops/prefix_top_k.hpp"

#include <algorithm>

namespace deepseek {

// The best k of the scores met, best first.
template <class X>
struct best_so_far {
  const X& scores;  // of one sequence
  std::int32_t* ids;
  index_t k, kept = 0, met = 0;

  void meet_until(index_t end) {
    for (; met < end; ++met) {
      if (kept == k && (k == 0 || !goes_before(scores, met, ids[k - 1]))) continue;
      index_t place = kept < k ? kept++ : k - 1;
      for (; place > 0 && goes_before(scores, met, ids[place - 1]); --place) {
        ids[place] = ids[place - 1];
      }
      ids[place] = static_cast<std::int32_t>(met);
    }
  }
  template <class Row>
  void write(const Row& row, std::int32_t* sorted) const {
    std::copy(ids, ids + kept, sorted);
    std::sort(sorted, sorted + kept);
    for (index_t i = 0; i < k; ++i) row(i) = i < kept ? sorted[i] : -1;
  }
};

template <class X, class Ids, class S>
void prefix_top_k_impl(const reference& b, const X& scores, const Ids& ids,
                       const prefix_spec<S>& spec) {
  const index_t k = ids.extent(1);
  const index_t start = spec.start_at.extent(0) > 0 ? spec.start_at(0) : spec.start;
  const bool one = spec.query_offsets.extent(0) == 0;
  const index_t sequences = one ? 1 : spec.query_offsets.extent(0) - 1;
  const scope freed(b.workspace());
  std::int32_t* const memory = b.workspace().template make<std::int32_t, dyn>(2 * k).data();
  for (index_t s = 0; s < sequences; ++s) {
    const index_t first = one ? 0 : spec.query_offsets(s), key = one ? 0 : spec.key_offsets(s);
    const index_t end = one ? ids.extent(0) : spec.query_offsets(s + 1);
    const index_t keys = (one ? scores.extent(0) : spec.key_offsets(s + 1)) - key;
    const auto own = rows(scores, key, keys);
    best_so_far<std::remove_const_t<decltype(own)>> best{own, memory, k};
    for (index_t i = first; i < end; ++i) {
      best.meet_until(spec.among == reach::past ? start + i - first + 1 : keys);
      best.write(slice(ids, i), memory + k);
    }
  }
}

}  // namespace deepseek
