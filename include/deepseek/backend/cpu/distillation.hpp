// SPDX-License-Identifier: Apache-2.0
// distillation on the cpu: the rows of the reference on all threads; see ops/distillation.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/distillation.hpp"

namespace deepseek {

template <class In>
distillation_result distillation_impl(const cpu& b, const In& in, const distillation_spec& spec) {
  const index_t counted = distillation_count(in, spec.ignore), n = in.student.extent(0);
  const scope freed(b.workspace());
  const auto each = b.workspace().template make<double, dyn, 2>(n);
  parallel_rows(b, n, rows_per_task(32 * in.student.extent(1)), [&](index_t first, index_t last) {
    distillation_losses(in, each, spec, first, last);
  });
  return distillation_means(each, counted, spec);
}

template <class In, class DS>
void distillation_gradient_impl(const cpu& b, const In& in, const DS& dstudent,
                                distillation_gradient_spec spec) {
  const index_t found = distillation_count(in, spec.of.ignore), n = in.student.extent(0);
  if (spec.counted == 0) spec.counted = found;
  parallel_rows(b, n, rows_per_task(32 * in.student.extent(1)), [&](index_t first, index_t last) {
    distillation_gradients(in, dstudent, spec, first, last);
  });
}

}  // namespace deepseek
