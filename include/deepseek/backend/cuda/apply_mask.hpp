// SPDX-License-Identifier: Apache-2.0
// apply_mask and n_of_m_mask on the device, element by element; see ops/apply_mask.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/rows/apply_mask.hpp"

namespace deepseek {

namespace cuda_apply_mask {

template <class M, class W>
struct applied {
  M mask;
  W w;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (element_at(mask, i) == 0) element_at(w, i) = typename W::value_type(0);
  }
};
template <class W, class M>
struct best_of_group {
  W w;
  M mask;
  n_of_m keep;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t r = i / w.extent(1), c = i % w.extent(1);
    mask(r, c) = n_of_m_kept(slice(w, r), c, keep) ? 1 : 0;
  }
};

}  // namespace cuda_apply_mask

template <DeviceBackend B, class M, class W>
void apply_mask_impl(const B& b, const M& mask, const W& w) {
  run_each_element(b, w.size(), cuda_apply_mask::applied<M, W>{mask, w});
}

template <DeviceBackend B, class W, class M>
void n_of_m_mask_impl(const B& b, const W& w, const M& mask, n_of_m keep) {
  run_each_element(b, w.size(), cuda_apply_mask::best_of_group<W, M>{w, mask, keep});
}

}  // namespace deepseek
