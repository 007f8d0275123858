// SPDX-License-Identifier: Apache-2.0
// distillation on the device: the row bodies of backend/rows over a warp or a block; means over
// rows in order; how many rows count stays on the device for the gradient. See
// ops/distillation.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/backend/cuda/targets.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/distillation.hpp"
#include "deepseek/ops/distillation.hpp"

namespace deepseek {

namespace cuda_distillation {

// The column that a row is to hit: -1 without targets, -2 where the row does not count.
template <class Targets>
DEEPSEEK_HOST_DEVICE index_t target_at(const Targets& targets, index_t row, std::int32_t ignore) {
  if constexpr (is_view<Targets>) {
    return targets(row) == ignore ? -2 : targets(row);
  } else {
    return -1;
  }
}

// The soft and the hard loss of each row, before T^2.
template <class In, class Each>
struct losses_of {
  In in;
  Each each;  // [rows, 2]: hard, soft
  distillation_spec spec;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (faults.found()) return;
    const index_t target = target_at(in.targets, row, spec.ignore);
    const auto s = slice(in.student, row);
    double hard = 0, soft = 0;
    if (target >= 0) hard = static_cast<double>(target_loss_row(team, s, target));
    if (target != -2) {
      soft = static_cast<double>(
          distillation_row(team, s, slice(in.teacher, row), 1 / spec.temperature));
    }
    if (team.rank() != 0) return;
    each(row, 0) = hard;
    each(row, 1) = soft;
  }
};

template <class In, class DS>
struct gradients_of {
  In in;
  DS dstudent;
  distillation_gradient_spec spec;
  const index_t* counted;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (faults.found()) return;
    const auto out = slice(dstudent, row);
    const index_t target = target_at(in.targets, row, spec.of.ignore);
    if (target == -2) {
      for (index_t v = team.rank(); v < out.extent(0); v += team.size()) {
        out(v) = convert_to<typename DS::value_type>(0.0);
      }
      return;
    }
    const index_t n = spec.counted > 0 ? spec.counted : *counted;
    const double by = n > 0 ? spec.scale / static_cast<double>(n) : 0.0;
    const distillation_factors f{1 / spec.of.temperature,
                                 by * (1 - spec.of.hard) * spec.of.temperature, by * spec.of.hard,
                                 spec.of.hard > 0 ? target : -1};
    distillation_gradient_row(team, slice(in.student, row), slice(in.teacher, row), out, f);
  }
};

struct known {
  index_t* counted;
  index_t rows;
  DEEPSEEK_HOST_DEVICE void operator()(index_t) const { *counted = rows; }
};

template <DeviceBackend B, class In>
void count(const B& b, const In& in, std::int32_t ignore, index_t* counted) {
  if constexpr (is_view<std::remove_cvref_t<decltype(in.targets)>>) {
    count_targets_on(b, in.targets, {in.student.extent(1), ignore, "distillation: targets"},
                     counted);
  } else {
    run_each_element(b, 1, known{counted, in.student.extent(0)});
  }
}

}  // namespace cuda_distillation

template <DeviceBackend B, class In>
distillation_result distillation_impl(const B& b, const In& in, const distillation_spec& spec) {
  using namespace cuda_distillation;
  using Each = view<double, typename B::space, dyn, 2>;
  const index_t rows = in.student.extent(0);
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  const auto sums = b.workspace().template make<double, 2>();
  const Each each = b.workspace().template make<double, dyn, 2>(rows);
  count(b, in, spec.ignore, counted.data());
  run_each_row(b, rows, in.student.extent(1), losses_of<In, Each>{in, each, spec, b.faults()});
  ordered_sum(b, each, sums);
  distillation_result out;
  out.counted = b.read(counted.data());
  if (out.counted == 0) return out;
  const double n = static_cast<double>(out.counted);
  out.hard = b.read(sums.data()) / n;
  out.soft = b.read(sums.data() + 1) * (spec.temperature * spec.temperature / n);
  out.mean = spec.hard * out.hard + (1 - spec.hard) * out.soft;
  return out;
}

template <DeviceBackend B, class In, class DS>
void distillation_gradient_impl(const B& b, const In& in, const DS& dstudent,
                                const distillation_gradient_spec& spec) {
  using namespace cuda_distillation;
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  count(b, in, spec.of.ignore, counted.data());
  using gradients = gradients_of<In, DS>;
  b.launch(each_row<512, gradients>{in.student.extent(0),
                                    {in, dstudent, spec, counted.data(), b.faults()}});
}

}  // namespace deepseek
