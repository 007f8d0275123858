// SPDX-License-Identifier: Apache-2.0
// importance_loss on the reference backend: plain loops in double; see ops/importance_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/variation.hpp"
#include "deepseek/ops/importance_loss.hpp"

namespace deepseek {

template <class W, class I>
void sum_importance(const importance_inputs<W, I>& in, const view<double, host, dyn>& sums) {
  require_indices(in.ids, sums.extent(0), "importance_loss: ids", absent_index);
  for (index_t e = 0; e < sums.extent(0); ++e) sums(e) = 0;
  for (index_t t = 0; t < in.ids.extent(0); ++t) {
    for (index_t k = 0; k < in.ids.extent(1); ++k) {
      if (in.ids(t, k) >= 0) sums(in.ids(t, k)) += convert_to<double>(in.weights(t, k));
    }
  }
}

template <class W, class I>
double importance_loss_impl(const reference& b, const importance_inputs<W, I>& in, index_t experts,
                            double alpha) {
  const scope freed(b.workspace());
  const view<double, host, dyn> sums = b.workspace().template make<double, dyn>(experts);
  sum_importance(in, sums);
  return alpha * variation(sums).value();
}

template <class W, class I, class DW>
void importance_loss_backward_impl(const reference& b, const importance_inputs<W, I>& in,
                                   const DW& dweights, index_t experts, double alpha) {
  using T = typename DW::value_type;
  const scope freed(b.workspace());
  const view<double, host, dyn> sums = b.workspace().template make<double, dyn>(experts);
  sum_importance(in, sums);
  const variation v(sums);
  for (index_t t = 0; t < in.ids.extent(0); ++t) {
    for (index_t k = 0; k < in.ids.extent(1); ++k) {
      if (in.ids(t, k) < 0) continue;
      const double d = alpha * v.derivative(sums(in.ids(t, k)));
      dweights(t, k) = convert_to<T>(convert_to<double>(dweights(t, k)) + d);
    }
  }
}

}  // namespace deepseek
