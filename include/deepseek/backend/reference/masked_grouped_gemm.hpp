// SPDX-License-Identifier: Apache-2.0
// masked_grouped_gemm on host backends: counts are checked, then the backend's own grouped product
// over the rows that are there. See ops/masked_grouped_gemm.hpp.
#pragma once

#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/masked_grouped_gemm.hpp"

namespace deepseek {

// As for offsets: f(expert, first row, rows) for every expert that has rows.
template <class Counts, class F>
void for_each_expert(const counted_rows<Counts>& at, const F& f) {
  for (index_t e = 0; e < at.counts.extent(0); ++e) {
    const index_t count = at.counts(e);
    if (count > 0) f(e, e * at.capacity, count);
  }
}

template <class Counts>
void require_expert_counts(const counted_rows<Counts>& at) {
  for (index_t e = 0; e < at.counts.extent(0); ++e) {
    const index_t count = at.counts(e);
    if (count < 0 || count > at.capacity) fail_expert_count(e, count, at.capacity);
  }
}

template <class B, class X, class W, class Counts, class Y>
requires std::is_base_of_v<reference, B>
void masked_grouped_gemm_impl(const B& b, const X& x, const W& w, const counted_rows<Counts>& at,
                              const Y& y) {
  require_expert_counts(at);
  if (!y.empty()) grouped_gemm_impl(b, x, w, at, y);
}
template <class B, class X, class DY, class Counts, class DW>
requires std::is_base_of_v<reference, B>
void masked_grouped_gemm_weight_gradient_impl(const B& b, const X& x, const DY& dy,
                                              const counted_rows<Counts>& at, const DW& dw) {
  require_expert_counts(at);
  if (!dw.empty()) grouped_gemm_weight_gradient_impl(b, x, dy, at, dw);
}

}  // namespace deepseek
