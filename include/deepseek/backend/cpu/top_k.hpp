// SPDX-License-Identifier: Apache-2.0
// top_k on the cpu: the row body of the reference, rows on all threads.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/top_k.hpp"

namespace deepseek {

template <class X, class V, class Ids>
void top_k_impl(const cpu& b, const X& x, const V& values, const Ids& ids) {
  parallel_rows(b, x.extent(0), rows_per_task(16 * x.extent(1)), [&](index_t first, index_t end) {
    const index_t n = end - first;
    top_k_impl(static_cast<const reference&>(b), rows(x, first, n), rows(values, first, n),
               rows(ids, first, n));
  });
}

template <class Ids, class DV, class DX>
void top_k_backward_impl(const cpu& b, const Ids& ids, const DV& dvalues, const DX& dx) {
  require_indices(ids, dx.extent(1), "top_k_backward: ids");
  parallel_rows(b, dx.extent(0), rows_per_task(dx.extent(1)), [&](index_t first, index_t end) {
    const index_t n = end - first;
    top_k_backward_impl(static_cast<const reference&>(b), rows(ids, first, n),
                        rows(dvalues, first, n), rows(dx, first, n));
  });
}

}  // namespace deepseek
