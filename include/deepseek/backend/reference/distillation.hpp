// SPDX-License-Identifier: Apache-2.0
// distillation on host backends: rows, on all threads where the backend has some; one body, so the
// same bits on both; see ops/distillation.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/cross_entropy.hpp"
#include "deepseek/backend/rows/distillation.hpp"
#include "deepseek/ops/distillation.hpp"

namespace deepseek {

// The column that a row is to hit: -1 without targets, -2 where the row does not count.
template <class Targets>
index_t distillation_target(const Targets& targets, index_t row, std::int32_t ignore) {
  if constexpr (is_view<Targets>) {
    return targets(row) == ignore ? -2 : targets(row);
  } else {
    return -1;
  }
}
template <class In>
index_t distillation_count(const In& in, std::int32_t ignore) {
  if constexpr (is_view<decltype(in.targets)>) {
    return count_targets(in.targets, in.student.extent(1), ignore, "distillation: targets");
  } else {
    return in.student.extent(0);
  }
}

// Losses of rows first .. last - 1 into each [rows, 2]: hard, soft before T^2.
template <class In, class Each>
void distillation_losses(const In& in, const Each& each, const distillation_spec& spec,
                         index_t first, index_t last) {
  for (index_t i = first; i < last; ++i) {
    const index_t target = distillation_target(in.targets, i, spec.ignore);
    const auto s = slice(in.student, i);
    each(i, 0) = target < 0 ? 0.0 : static_cast<double>(target_loss_row(serial_team{}, s, target));
    each(i, 1) = target == -2 ? 0.0
                              : static_cast<double>(distillation_row(
                                    serial_team{}, s, slice(in.teacher, i), 1 / spec.temperature));
  }
}
template <class Each>
distillation_result distillation_means(const Each& each, index_t counted,
                                       const distillation_spec& spec) {
  distillation_result out;
  out.counted = counted;
  if (counted == 0) return out;
  for (index_t i = 0; i < each.extent(0); ++i) {
    out.hard += each(i, 0);
    out.soft += each(i, 1);
  }
  out.hard /= static_cast<double>(counted);
  out.soft *= spec.temperature * spec.temperature / static_cast<double>(counted);
  out.mean = spec.hard * out.hard + (1 - spec.hard) * out.soft;
  return out;
}

template <class In, class DS>
void distillation_gradients(const In& in, const DS& dstudent,
                            const distillation_gradient_spec& spec, index_t first, index_t last) {
  const index_t counted = spec.counted;
  const double by = counted > 0 ? spec.scale / static_cast<double>(counted) : 0.0;
  for (index_t i = first; i < last; ++i) {
    const auto row = slice(dstudent, i);
    const index_t target = distillation_target(in.targets, i, spec.of.ignore);
    if (target == -2) {
      for (index_t v = 0; v < row.extent(0); ++v) {
        row(v) = convert_to<typename DS::value_type>(0.0);
      }
      continue;
    }
    const distillation_factors f{1 / spec.of.temperature,
                                 by * (1 - spec.of.hard) * spec.of.temperature, by * spec.of.hard,
                                 spec.of.hard > 0 ? target : -1};
    distillation_gradient_row(serial_team{}, slice(in.student, i), slice(in.teacher, i), row, f);
  }
}

template <class In>
distillation_result distillation_impl(const reference& b, const In& in,
                                      const distillation_spec& spec) {
  const index_t counted = distillation_count(in, spec.ignore);
  const scope freed(b.workspace());
  const auto each = b.workspace().template make<double, dyn, 2>(in.student.extent(0));
  distillation_losses(in, each, spec, 0, in.student.extent(0));
  return distillation_means(each, counted, spec);
}

template <class In, class DS>
void distillation_gradient_impl(const reference&, const In& in, const DS& dstudent,
                                distillation_gradient_spec spec) {
  const index_t found = distillation_count(in, spec.of.ignore);
  if (spec.counted == 0) spec.counted = found;
  distillation_gradients(in, dstudent, spec, 0, in.student.extent(0));
}

}  // namespace deepseek
