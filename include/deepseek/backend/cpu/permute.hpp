// SPDX-License-Identifier: Apache-2.0
// permute on the cpu: rows on all threads; sums in registers, over k in order.
#pragma once

#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/reference/permute.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class X, class Source, class Y>
void permute_impl(const cpu& b, const X& x, const Source& source, index_t choices, const Y& xs) {
  if (!unit_rows(x, xs)) {
    return permute_impl(static_cast<const reference&>(b), x, source, choices, xs);
  }
  require_indices(source, x.extent(0) * choices, "permute: source");
  parallel_rows(b, xs.extent(0), rows_per_task(xs.extent(1)), [&](index_t first, index_t end) {
    for (index_t r = first; r < end; ++r) {
      convert_run(xs.extent(1), row_at(x, source(r) / choices).data(), row_at(xs, r).data());
    }
  });
}

template <class DY, class Slot, class DX>
void permute_backward_impl(const cpu& b, const DY& dxs, const Slot& slot,
                           const DX& dx) requires Widenable<DX, DY> {
  using pack = simd::pack<lanes_of<DX>>;
  if (!unit_rows(dxs, dx)) {
    return permute_backward_impl(static_cast<const reference&>(b), dxs, slot, dx);
  }
  require_indices(slot, dxs.extent(0), "permute_backward: slot", absent_index);
  const index_t width = dx.extent(1), choices = slot.extent(1);
  parallel_rows(b, dx.extent(0), rows_per_task(width * choices), [&](index_t first, index_t end) {
    for (index_t t = first; t < end; ++t) {
      auto* to = row_at(dx, t).data();
      for (index_t d = 0; d < width; d += pack::width) {
        pack sum = pack::zero();
        for (index_t k = 0; k < choices; ++k) {
          if (slot(t, k) < 0) continue;
          sum = sum + simd::load_wide(row_at(dxs, slot(t, k)).data() + d, width - d);
        }
        simd::store_narrow(to + d, sum, width - d);
      }
    }
  });
}

}  // namespace deepseek
