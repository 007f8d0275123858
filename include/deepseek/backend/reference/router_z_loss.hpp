// SPDX-License-Identifier: Apache-2.0
// router_z_loss on the reference backend: plain loops in double; see ops/router_z_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/router_z_loss.hpp"

#include <limits>

namespace deepseek {

template <class Z>
double router_z_loss_impl(const reference&, const Z& logits, double alpha) {
  double sum = 0;
  for (index_t t = 0; t < logits.extent(0); ++t) {
    const double lse = log_sum_exp(serial_team{}, slice(logits, t));
    if (lse > -std::numeric_limits<double>::infinity()) sum += lse * lse;
  }
  return alpha * sum / static_cast<double>(logits.extent(0));
}

template <class Z, class DZ>
void router_z_loss_backward_impl(const reference&, const Z& logits, const DZ& dlogits,
                                 double alpha) {
  using T = typename DZ::value_type;
  const double scale = 2 * alpha / static_cast<double>(logits.extent(0));
  for (index_t t = 0; t < logits.extent(0); ++t) {
    const double lse = log_sum_exp(serial_team{}, slice(logits, t));
    if (!(lse > -std::numeric_limits<double>::infinity())) continue;
    for (index_t e = 0; e < logits.extent(1); ++e) {
      const double p = std::exp(convert_to<double>(logits(t, e)) - lse);
      dlogits(t, e) = convert_to<T>(convert_to<double>(dlogits(t, e)) + scale * lse * p);
    }
  }
}

}  // namespace deepseek
