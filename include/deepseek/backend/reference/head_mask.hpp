// SPDX-License-Identifier: Apache-2.0
// head_mask on the reference backend, row by row; see ops/head_mask.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/head_mask.hpp"
#include "deepseek/core/dtype.hpp"

namespace deepseek {

template <class G, class Mask>
void head_mask_impl(const reference&, const G& g, const Mask& mask, const head_mask_rule& rule) {
  using T = typename Mask::value_type;
  using A = accumulate_t<T>;
  const index_t heads = mask.extent(1);
  for (index_t n = 0; n < mask.extent(0); ++n) {
    const A gate = static_cast<A>(g(n, 0));
    for (index_t h = 0; h < heads; ++h) {
      mask(n, h) = static_cast<T>(head_weight(gate, h, heads, rule));
    }
  }
}

template <class G, class DMask, class DG>
void head_mask_backward_impl(const reference&, const G& g, const DMask& dmask, const DG& dg,
                             const head_mask_rule& rule) {
  using T = typename DG::value_type;
  using A = accumulate_t<T>;
  for (index_t n = 0; n < dg.extent(0); ++n) {
    dg(n, 0) = static_cast<T>(head_mask_slope(static_cast<A>(g(n, 0)), slice(dmask, n), rule));
  }
}

}  // namespace deepseek
