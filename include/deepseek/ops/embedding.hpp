// SPDX-License-Identifier: Apache-2.0
// embedding: y[i] = table[ids[i]]; ids [n] int32, table [V, D], y [n, D]. y's type may be another.
// Backward: dtable[ids[i]] += dy[i], added over i = 0 .. n-1 in order, in accumulate_t of dtable,
// rounded at each addition: bits do not depend on threads. Rows that no id names are not touched.
// Errors: index_range for an id outside 0 .. V-1 (names its position; nothing is written then),
// shape_mismatch, invalid_argument, aliasing (y overlaps table, dtable dy). Cost: n x D elements
// read and written.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct embedding_op {
  static constexpr std::string_view name = "embedding";

  template <class B, class Ids, class W, class Y>
  void operator()(const B& b, const Ids& ids_in, const W& table_in, Y&& y_in) const {
    const auto ids = as_const(as_view(ids_in));
    const auto table = as_const(as_view(table_in));
    const auto y = as_view(y_in);
    check_spaces(b, ids, table, y);
    static_assert(ids.rank == 1 && table.rank == 2 && y.rank == 2,
                  "deepseek::embedding: wrong ranks; pass ids[n], table[V, D], y[n, D]");
    require_extent(y, 0, ids.extent(0), "embedding: y");
    require_extent(y, 1, table.extent(1), "embedding: y");
    require_data(ids, "embedding: ids");
    require_data(table, "embedding: table");
    require_data(y, "embedding: y");
    require_apart(table, y, "embedding: table");
    if (!ids.empty()) embedding_impl(b, ids, table, y);
  }
};

struct embedding_backward_op {
  static constexpr std::string_view name = "embedding_backward";

  template <class B, class Ids, class DY, class DW>
  void operator()(const B& b, const Ids& ids_in, const DY& dy_in, DW&& dtable_in) const {
    const auto ids = as_const(as_view(ids_in));
    const auto dy = as_const(as_view(dy_in));
    const auto dtable = as_view(dtable_in);
    check_spaces(b, ids, dy, dtable);
    static_assert(ids.rank == 1 && dy.rank == 2 && dtable.rank == 2,
                  "deepseek::embedding_backward: wrong ranks; pass ids[n], dy[n, D], dtable[V, D]");
    require_extent(dy, 0, ids.extent(0), "embedding_backward: dy");
    require_extent(dy, 1, dtable.extent(1), "embedding_backward: dy");
    require_data(ids, "embedding_backward: ids");
    require_data(dy, "embedding_backward: dy");
    require_data(dtable, "embedding_backward: dtable");
    require_apart(dy, dtable, "embedding_backward: dy");
    if (!ids.empty()) embedding_backward_impl(b, ids, dy, dtable);
  }
};

namespace ops {
inline constexpr embedding_op embedding{};
inline constexpr embedding_backward_op embedding_backward{};
}  // namespace ops

}  // namespace deepseek
