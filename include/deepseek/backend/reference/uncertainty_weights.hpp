// SPDX-License-Identifier: Apache-2.0
// uncertainty_weights on host backends; see ops/uncertainty_weights.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/uncertainty_weights.hpp"

#include <cmath>

namespace deepseek {

template <class In, class Out>
double uncertainty_weights_impl(const reference&, const In& in, const Out& out, double scale) {
  using W = typename decltype(out.weights)::value_type;
  using D = typename decltype(out.dlog_variances)::value_type;
  const index_t tasks = in.losses.extent(0);
  for (index_t k = 0; k < tasks; ++k) {
    const double loss = convert_to<double>(in.losses(k));
    require(std::isfinite(loss), error_code::nonfinite, "uncertainty_weights: losses[", k, "] is ",
            loss, "; look at that task before it is weighted");
  }
  double total = 0;
  for (index_t k = 0; k < tasks; ++k) {
    const double loss = convert_to<double>(in.losses(k));
    const double s = convert_to<double>(in.log_variances(k));
    double a = 1;
    if constexpr (is_view<decltype(in.factors)>) a = convert_to<double>(in.factors(k));
    const double weight = a * std::exp(-s);
    total += weight * loss + s / 2;
    out.weights(k) = convert_to<W>(weight);
    const double d = scale * (0.5 - weight * loss);
    out.dlog_variances(k) = convert_to<D>(convert_to<double>(out.dlog_variances(k)) + d);
  }
  return total;
}

}  // namespace deepseek
