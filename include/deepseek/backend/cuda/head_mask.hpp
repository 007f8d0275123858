// SPDX-License-Identifier: Apache-2.0
// head_mask and sum_heads on the device: a thread for each element that is written, its sum over
// heads in order; see ops/head_mask.hpp and ops/sum_heads.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/head_mask.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/sum_heads.hpp"

namespace deepseek {

namespace cuda_head_mask {

template <class G, class Mask>
struct forward {
  using T = typename Mask::value_type;
  G g;
  Mask mask;
  head_mask_rule rule;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t heads = mask.extent(1), n = i / heads, h = i % heads;
    mask(n, h) = static_cast<T>(head_weight(static_cast<accumulate_t<T>>(g(n, 0)), h, heads, rule));
  }
};
template <class G, class DMask, class DG>
struct backward {
  using T = typename DG::value_type;
  G g;
  DMask dmask;
  DG dg;
  head_mask_rule rule;
  DEEPSEEK_HOST_DEVICE void operator()(index_t n) const {
    const auto gate = static_cast<accumulate_t<T>>(g(n, 0));
    dg(n, 0) = static_cast<T>(head_mask_slope(gate, slice(dmask, n), rule));
  }
};

template <class X, class Y>
struct sum_of_heads {
  using A = accumulate_t<typename Y::value_type>;
  X x;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t t = i / y.extent(1), d = i % y.extent(1);
    A sum = 0;
    for (index_t h = 0; h < x.extent(1); ++h) sum += static_cast<A>(x(t, h, d));
    y(t, d) = static_cast<typename Y::value_type>(sum);
  }
};

}  // namespace cuda_head_mask

template <DeviceBackend B, class G, class Mask>
void head_mask_impl(const B& b, const G& g, const Mask& mask, const head_mask_rule& rule) {
  run_each_element(b, mask.size(), cuda_head_mask::forward<G, Mask>{g, mask, rule});
}

template <DeviceBackend B, class G, class DMask, class DG>
void head_mask_backward_impl(const B& b, const G& g, const DMask& dmask, const DG& dg,
                             const head_mask_rule& rule) {
  run_each_element(b, dg.extent(0), cuda_head_mask::backward<G, DMask, DG>{g, dmask, dg, rule});
}

template <DeviceBackend B, class X, class Y>
void sum_heads_impl(const B& b, const X& x, const Y& y) {
  run_each_element(b, y.size(), cuda_head_mask::sum_of_heads<X, Y>{x, y});
}

}  // namespace deepseek
