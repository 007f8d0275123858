// SPDX-License-Identifier: Apache-2.0
// indexer_top_k on the cpu: the scores and the selection of the cpu, rows written on all threads;
// see ops/indexer_top_k.hpp.
#pragma once

#include "deepseek/backend/cpu/lightning_indexer.hpp"
#include "deepseek/backend/cpu/top_k.hpp"
#include "deepseek/backend/reference/indexer_top_k.hpp"

namespace deepseek {

template <class Scores, class Found, class Ids>
void write_selections(const cpu& b, const Scores& scores, const Found& found, const Ids& ids,
                      selection_order order) {
  parallel_rows(b, ids.extent(0), rows_per_task(16 * ids.extent(1)),
                [&](index_t first, index_t end) {
                  const index_t n = end - first;
                  write_selections(static_cast<const reference&>(b), rows(scores, first, n),
                                   rows(found, first, n), rows(ids, first, n), order);
                });
}

}  // namespace deepseek
