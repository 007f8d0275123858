// SPDX-License-Identifier: Apache-2.0
// pool on the cpu: the reference's loops, sequence by sequence on all threads; see ops/pool.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/pool.hpp"

namespace deepseek {

template <class X, class Offsets, class Y>
void pool_impl(const cpu& b, const X& x, const Offsets& offsets, pooled_row how, const Y& y) {
  require_pooled(offsets, x.extent(0), "pool: offsets");
  parallel_rows(b, y.extent(0), 1, [&](index_t first, index_t end) {
    for (index_t s = first; s < end; ++s) {
      pool_sequence(x, rows_of_sequence(offsets, s, x.extent(0)), how, slice(y, s));
    }
  });
}

template <class DY, class Offsets, class DX>
void pool_backward_impl(const cpu& b, const DY& dy, const Offsets& offsets, pooled_row how,
                        const DX& dx) {
  require_pooled(offsets, dx.extent(0), "pool_backward: offsets");
  parallel_rows(b, dy.extent(0), 1, [&](index_t first, index_t end) {
    for (index_t s = first; s < end; ++s) {
      pool_sequence_backward(slice(dy, s), rows_of_sequence(offsets, s, dx.extent(0)), how, dx);
    }
  });
}

}  // namespace deepseek
