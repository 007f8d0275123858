// SPDX-License-Identifier: Apache-2.0
// uncertainty_weights on the device: losses are checked, then one warp weighs the tasks; see
// ops/uncertainty_weights.hpp.
#pragma once

#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/uncertainty_weights.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_uncertainty_weights {

inline void raise_loss(const fault& f) {
  fail(error_code::nonfinite, "uncertainty_weights: losses[", f.position, "] is ", f.number,
       "; look at that task before it is weighted");
}

template <class Losses>
struct check_losses {
  static constexpr int threads = 32;
  Losses losses;
  fault_place faults;
  index_t blocks() const { return blocks_of(losses.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t k = block.index() * threads + block.rank();
    if (k >= losses.extent(0)) return;
    fault f;
    f.position = k;
    f.number = convert_to<double>(losses(k));
    if (!(std::fabs(f.number) < math::infinity<double>)) faults.tell(block, f);
  }
};

template <class In, class Out, class Total>
struct weigh {
  In in;
  Out out;
  Total total;
  double scale;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t) const {
    const double sum = row_sum(team, in.losses.extent(0), [&](index_t k) { return task(k); });
    if (team.rank() == 0) total(0) = sum;
  }
  // Its part of the total.
  DEEPSEEK_HOST_DEVICE double task(index_t k) const {
    using W = typename decltype(out.weights)::value_type;
    using D = typename decltype(out.dlog_variances)::value_type;
    const double loss = convert_to<double>(in.losses(k));
    const double s = convert_to<double>(in.log_variances(k));
    double a = 1;
    if constexpr (is_view<std::remove_cvref_t<decltype(in.factors)>>) {
      a = convert_to<double>(in.factors(k));
    }
    const double weight = a * std::exp(-s), d = scale * (0.5 - weight * loss);
    out.weights(k) = convert_to<W>(weight);
    out.dlog_variances(k) = convert_to<D>(convert_to<double>(out.dlog_variances(k)) + d);
    return weight * loss + s / 2;
  }
};

}  // namespace cuda_uncertainty_weights

template <DeviceBackend B, class In, class Out>
double uncertainty_weights_impl(const B& b, const In& in, const Out& out, double scale) {
  using Losses = std::remove_cvref_t<decltype(in.losses)>;
  using Total = view<double, typename B::space, dyn>;
  const scope freed(b.workspace());
  const Total total = b.workspace().template make<double, dyn>(index_t{1});
  b.launch(cuda_uncertainty_weights::check_losses<Losses>{
      in.losses, b.faults().raising(cuda_uncertainty_weights::raise_loss)});
  run_each_row(
      b, 1, in.losses.extent(0),
      unless_fault(b, cuda_uncertainty_weights::weigh<In, Out, Total>{in, out, total, scale}));
  return b.read(total.data());
}

}  // namespace deepseek
