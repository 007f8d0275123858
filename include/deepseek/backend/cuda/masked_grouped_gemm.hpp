// SPDX-License-Identifier: Apache-2.0
// masked_grouped_gemm on the device, counts read there: the kernels of grouped_gemm.hpp with groups
// of one capacity (row_tiles.hpp), so a block knows its expert without a search; blocks of rows
// that are not there end at once. Launches depend on the shapes alone. A count outside its range is
// told to the context, and all groups are empty then. The kernel is chosen by the capacity. See
// ops/masked_grouped_gemm.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/grouped_gemm.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/ops/masked_grouped_gemm.hpp"

namespace deepseek {

namespace cuda_grouped {

inline void raise_expert_count(const fault& f) {
  fail_expert_count(f.position, f.value, f.size - 1);
}

template <class B, class Counts>
auto checked_groups(const B& b, const counted_rows<Counts>& at) {
  using counts = view<const std::int32_t, typename B::space, dyn>;
  const counts from = at.counts;
  const fault_place faults = b.faults().raising(raise_expert_count);
  b.launch(cuda_index_check::check<counts>{from, at.capacity + 1, 0, nullptr, faults});
  return counted_groups<counts>{from, at.capacity, b.faults()};
}

}  // namespace cuda_grouped

template <DeviceBackend B, class X, class W, class Counts, class Y>
void masked_grouped_gemm_impl(const B& b, const X& x, const W& w, const counted_rows<Counts>& at,
                              const Y& y) {
  const auto groups = cuda_grouped::checked_groups(b, at);
  if (!y.empty()) grouped_gemm_impl(b, x, w, groups, y);
}

template <DeviceBackend B, class X, class DY, class Counts, class DW>
void masked_grouped_gemm_weight_gradient_impl(const B& b, const X& x, const DY& dy,
                                              const counted_rows<Counts>& at, const DW& dw) {
  const auto groups = cuda_grouped::checked_groups(b, at);
  if (!dw.empty()) grouped_gemm_weight_gradient_impl(b, x, dy, groups, dw);
}

}  // namespace deepseek
