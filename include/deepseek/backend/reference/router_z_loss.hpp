// SPDX-License-Identifier: Apache-2.0
// router_z_loss on the reference backend: plain loops in double; see ops/router_z_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/router_z_loss.hpp"

#include <limits>

namespace deepseek {

// ln sum exp of row t; -inf where every logit is.
template <class Z>
double log_sum_exp(const Z& z, index_t t) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (index_t e = 0; e < z.extent(1); ++e) top = std::fmax(top, convert_to<double>(z(t, e)));
  if (std::isinf(top)) return top;
  for (index_t e = 0; e < z.extent(1); ++e) sum += std::exp(convert_to<double>(z(t, e)) - top);
  return top + std::log(sum);
}

template <class Z>
double router_z_loss_impl(const reference&, const Z& logits, double alpha) {
  double sum = 0;
  for (index_t t = 0; t < logits.extent(0); ++t) {
    const double lse = log_sum_exp(logits, t);
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
    const double lse = log_sum_exp(logits, t);
    if (!(lse > -std::numeric_limits<double>::infinity())) continue;
    for (index_t e = 0; e < logits.extent(1); ++e) {
      const double p = std::exp(convert_to<double>(logits(t, e)) - lse);
      dlogits(t, e) = convert_to<T>(convert_to<double>(dlogits(t, e)) + scale * lse * p);
    }
  }
}

}  // namespace deepseek
