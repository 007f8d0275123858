// SPDX-License-Identifier: Apache-2.0
// scale_columns on the cpu: the loops of the reference, rows on all threads.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/scale_columns.hpp"

namespace deepseek {

template <class X, class S, class Y>
void scale_columns_impl(const cpu& b, const X& x, const S& s, const Y& y) {
  parallel_rows(b, x.extent(0), rows_per_task(x.extent(1)),
                [&](index_t first, index_t last) { scale_columns_rows(x, s, y, first, last); });
}

}  // namespace deepseek
