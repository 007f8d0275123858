// SPDX-License-Identifier: Apache-2.0
// embedding on the cpu: rows on all threads; the table's gradient in blocks of 32 columns.
#pragma once

#include "deepseek/backend/cpu/add.hpp"
#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/reference/embedding.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class Ids, class W, class Y>
void embedding_impl(const cpu& b, const Ids& ids, const W& table, const Y& y) {
  if (!unit_rows(table, y)) {
    return embedding_impl(static_cast<const reference&>(b), ids, table, y);
  }
  require_indices(ids, table.extent(0), "embedding: ids");
  parallel_rows(b, ids.extent(0), rows_per_task(y.extent(1)), [&](index_t first, index_t end) {
    for (index_t i = first; i < end; ++i) {
      convert_run(y.extent(1), row_at(table, ids(i)).data(), row_at(y, i).data());
    }
  });
}

// Each task owns some columns and adds all tokens to them in order: equal ids never meet.
template <class Ids, class DY, class DW>
void embedding_backward_impl(const cpu& b, const Ids& ids, const DY& dy, const DW& dtable) {
  if (!unit_rows(dy, dtable)) {
    return embedding_backward_impl(static_cast<const reference&>(b), ids, dy, dtable);
  }
  require_indices(ids, dtable.extent(0), "embedding_backward: ids");
  constexpr index_t block = 32;
  const index_t columns = dy.extent(1);
  b.parallel((columns + block - 1) / block, [&](index_t task) {
    const index_t c = task * block, n = std::min(block, columns - c);
    for (index_t i = 0; i < ids.extent(0); ++i) {
      add_run(n, row_at(dy, i).data() + c, row_at(dtable, ids(i)).data() + c);
    }
  });
}

}  // namespace deepseek
