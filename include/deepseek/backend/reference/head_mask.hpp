// SPDX-License-Identifier: Apache-2.0
// head_mask on the reference backend, row by row; see ops/head_mask.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/head_mask.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

// The argument of the soft mask of head h.
template <class A>
A head_margin(A g, index_t h, index_t heads, const head_mask_rule& rule) {
  return (static_cast<A>(heads) * g - static_cast<A>(h)) / static_cast<A>(rule.temperature);
}

template <class A>
A hard_head(A g, index_t h, index_t heads) {
  const A all = static_cast<A>(heads), counted = std::round(all * g);
  if (counted != counted) return counted;
  return static_cast<A>(h) < std::clamp(counted, A(1), all) ? A(1) : A(0);
}

template <class G, class Mask>
void head_mask_impl(const reference&, const G& g, const Mask& mask, const head_mask_rule& rule) {
  using T = typename Mask::value_type;
  using A = accumulate_t<T>;
  const index_t heads = mask.extent(1);
  for (index_t n = 0; n < mask.extent(0); ++n) {
    const A gate = static_cast<A>(g(n, 0));
    for (index_t h = 0; h < heads; ++h) {
      mask(n, h) = static_cast<T>(rule.edge == mask_edge::hard
                                      ? hard_head(gate, h, heads)
                                      : math::sigmoid(head_margin(gate, h, heads, rule)));
    }
  }
}

template <class G, class DMask, class DG>
void head_mask_backward_impl(const reference&, const G& g, const DMask& dmask, const DG& dg,
                             const head_mask_rule& rule) {
  using T = typename DG::value_type;
  using A = accumulate_t<T>;
  const index_t heads = dmask.extent(1);
  const A steep = static_cast<A>(heads) / static_cast<A>(rule.temperature);
  for (index_t n = 0; n < dg.extent(0); ++n) {
    A sum = 0;
    for (index_t h = 0; h < heads; ++h) {
      const A at = head_margin(static_cast<A>(g(n, 0)), h, heads, rule);
      sum += static_cast<A>(dmask(n, h)) * steep * math::sigmoid_derivative(at);
    }
    dg(n, 0) = static_cast<T>(sum);
  }
}

}  // namespace deepseek
