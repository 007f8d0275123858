// SPDX-License-Identifier: Apache-2.0
// indexer_top_k: blocks of queries of one sequence at a time, their scores and the largest of each
// row by the backend's own indexer and top_k; see ops/indexer_top_k.hpp. A block's size follows the
// number of keys alone, and rows are independent: the bits do not depend on it.
#pragma once

#include "deepseek/backend/reference/lightning_indexer.hpp"
#include "deepseek/backend/reference/top_k.hpp"
#include "deepseek/ops/indexer_top_k.hpp"

#include <algorithm>

namespace deepseek {

// One row: those of the `found` ids whose score is above -inf move up in the order asked for, the
// rest becomes -1.
template <class Scores, class Found, class Ids>
void write_selection(const Scores& scores, const Found& found, const Ids& ids,
                     selection_order order) {
  using A = accumulate_t<typename Scores::value_type>;
  index_t n = 0;
  for (index_t j = 0; j < found.extent(0); ++j) {
    if (static_cast<A>(scores(j)) != -std::numeric_limits<A>::infinity()) found(n++) = found(j);
  }
  if (order == selection_order::by_position) std::sort(found.data(), found.data() + n);
  for (index_t j = 0; j < ids.extent(0); ++j) ids(j) = j < n ? found(j) : -1;
}

template <class Scores, class Found, class Ids>
void write_selections(const reference&, const Scores& scores, const Found& found, const Ids& ids,
                      selection_order order) {
  for (index_t i = 0; i < ids.extent(0); ++i) {
    write_selection(slice(scores, i), slice(found, i), slice(ids, i), order);
  }
}

template <class B, class In, class Ids, class Spec>
requires std::is_base_of_v<reference, B>
void indexer_top_k_impl(const B& b, const In& in, const Ids& ids, const Spec& spec,
                        selection_order order) {
  using A = accumulate_t<typename decltype(in.q)::value_type>;
  constexpr index_t most_scores = index_t{1} << 22;
  auto& memory = b.workspace();
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto all = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const index_t k = std::min(ids.extent(1), all.keys);
    const index_t block = std::clamp<index_t>(most_scores / std::max<index_t>(all.keys, 1), 8, 256);
    for (index_t i = 0; i < all.queries; i += block) {
      const index_t n = std::min(block, all.queries - i);
      const attention_range range{all.query + i, n, all.key, all.keys, all.start + i};
      const scope freed(memory);
      const auto scores = memory.template make<A, dyn, dyn>(n, all.keys);
      const auto best = memory.template make<A, dyn, dyn>(n, k);
      const auto found = memory.template make<std::int32_t, dyn, dyn>(n, k);
      indexer_scores(b, in, scores, spec, range);
      if (k > 0) top_k_impl(b, as_const(scores), best, found);
      write_selections(b, best, found, rows(ids, range.query, n), order);
    }
  }
}

}  // namespace deepseek
