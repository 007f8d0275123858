// SPDX-License-Identifier: Apache-2.0
// embedding on the reference backend: plain loops; see ops/embedding.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/embedding.hpp"

namespace deepseek {

template <class Ids, class W, class Y>
void embedding_impl(const reference&, const Ids& ids, const W& table, const Y& y) {
  require_indices(ids, table.extent(0), "embedding: ids");
  for (index_t i = 0; i < ids.extent(0); ++i) {
    for (index_t d = 0; d < y.extent(1); ++d) {
      y(i, d) = convert_to<typename Y::value_type>(table(ids(i), d));
    }
  }
}

template <class Ids, class DY, class DW>
void embedding_backward_impl(const reference&, const Ids& ids, const DY& dy, const DW& dtable) {
  using T = typename DW::value_type;
  using A = accumulate_t<T>;
  require_indices(ids, dtable.extent(0), "embedding_backward: ids");
  for (index_t i = 0; i < ids.extent(0); ++i) {
    for (index_t d = 0; d < dy.extent(1); ++d) {
      T& to = dtable(ids(i), d);
      to = convert_to<T>(convert_to<A>(to) + convert_to<A>(dy(i, d)));
    }
  }
}

}  // namespace deepseek
