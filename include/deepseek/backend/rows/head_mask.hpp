// SPDX-License-Identifier: Apache-2.0
// The bodies of head_mask (formulas in ops/head_mask.hpp), shared by reference and cuda.
#pragma once

#include "deepseek/core/math.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/head_mask.hpp"

#include <cmath>

namespace deepseek {

// The argument of the soft mask of head h.
template <class A>
DEEPSEEK_HOST_DEVICE A head_margin(A g, index_t h, index_t heads, const head_mask_rule& rule) {
  return (static_cast<A>(heads) * g - static_cast<A>(h)) / static_cast<A>(rule.temperature);
}

template <class A>
DEEPSEEK_HOST_DEVICE A hard_head(A g, index_t h, index_t heads) {
  const A all = static_cast<A>(heads), counted = std::round(all * g);
  if (counted != counted) return counted;
  const A most = counted > all ? all : counted;
  return static_cast<A>(h) < (most < A(1) ? A(1) : most) ? A(1) : A(0);
}

template <class A>
DEEPSEEK_HOST_DEVICE A head_weight(A g, index_t h, index_t heads, const head_mask_rule& rule) {
  return rule.edge == mask_edge::hard ? hard_head(g, h, heads)
                                      : math::sigmoid(head_margin(g, h, heads, rule));
}

// dg of one row.
template <class A, class DMask>
DEEPSEEK_HOST_DEVICE A head_mask_slope(A g, const DMask& dmask, const head_mask_rule& rule) {
  const index_t heads = dmask.extent(0);
  const A steep = static_cast<A>(heads) / static_cast<A>(rule.temperature);
  A sum = 0;
  for (index_t h = 0; h < heads; ++h) {
    const A at = head_margin(g, h, heads, rule);
    sum += static_cast<A>(dmask(h)) * steep * math::sigmoid_derivative(at);
  }
  return sum;
}

}  // namespace deepseek
