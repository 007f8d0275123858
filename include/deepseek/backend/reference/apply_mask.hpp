// SPDX-License-Identifier: Apache-2.0
// apply_mask and n_of_m_mask on host backends: plain loops; see ops/apply_mask.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/apply_mask.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class M, class W>
void apply_mask_impl(const reference&, const M& mask, const W& w) {
  using T = typename W::value_type;
  for (index_t r = 0; r < row_count(w); ++r) {
    const auto keep = row_at(mask, r);
    const auto row = row_at(w, r);
    for (index_t i = 0; i < row.extent(0); ++i) {
      if (keep(i) == 0) row(i) = T(0);
    }
  }
}

template <class W, class M>
void n_of_m_mask_impl(const reference&, const W& w, const M& mask, n_of_m keep) {
  for (index_t r = 0; r < w.extent(0); ++r) {
    for (index_t i = 0; i < w.extent(1); ++i) {
      mask(r, i) = n_of_m_kept(slice(w, r), i, keep) ? 1 : 0;
    }
  }
}

}  // namespace deepseek
