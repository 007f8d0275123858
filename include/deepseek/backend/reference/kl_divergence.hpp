// SPDX-License-Identifier: Apache-2.0
// kl_divergence on the reference backend: one row at a time; see ops/kl_divergence.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/kl_divergence.hpp"
#include "deepseek/ops/kl_divergence.hpp"

namespace deepseek {

template <class P, class L>
double kl_divergence_impl(const reference&, const P& p, const L& logits) {
  double sum = 0;
  for (index_t i = 0; i < p.extent(0); ++i) {
    sum += static_cast<double>(kl_divergence_row(serial_team{}, slice(p, i), slice(logits, i)));
  }
  return sum / static_cast<double>(p.extent(0));
}

template <class P, class L, class DL>
void kl_divergence_gradient_impl(const reference&, const P& p, const L& logits, const DL& dlogits,
                                 double factor) {
  for (index_t i = 0; i < p.extent(0); ++i) {
    kl_divergence_gradient_row(serial_team{}, slice(p, i), slice(logits, i), slice(dlogits, i),
                               factor / static_cast<double>(p.extent(0)));
  }
}

}  // namespace deepseek
