// SPDX-License-Identifier: Apache-2.0
// unfold on the device: a thread for each element that is written; see ops/unfold.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/unfold.hpp"

namespace deepseek {

namespace cuda_unfold {

template <class X, class Y>
struct forward {
  X x;
  unfold_spec spec;
  unfold_grid grid;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t row = i / y.extent(1), column = i % y.extent(1);
    const index_t window = row % (grid.down * grid.across), image = row / (grid.down * grid.across);
    const index_t v = column % spec.width, cu = column / spec.width;
    const index_t u = cu % spec.height, c = cu / spec.height;
    const index_t top = window / grid.across * spec.down;
    const index_t left = window % grid.across * spec.across;
    y(row, column) = convert_to<typename Y::value_type>(x(image, c, top + u, left + v));
  }
};

template <class DY, class DX>
struct backward {
  using T = typename DX::value_type;
  DY dy;
  unfold_spec spec;
  unfold_grid grid;
  DX dx;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t w = i % dx.extent(3), chi = i / dx.extent(3);
    const index_t h = chi % dx.extent(2), ci = chi / dx.extent(2);
    const index_t c = ci % dx.extent(1), image = ci / dx.extent(1);
    const index_t windows = grid.down * grid.across;
    dx(image, c, h, w) = convert_to<T>(
        folded_sum<accumulate_t<T>>(rows(dy, image * windows, windows), grid, spec, {c, h, w}));
  }
};

}  // namespace cuda_unfold

template <DeviceBackend B, class X, class Y>
void unfold_impl(const B& b, const X& x, const unfold_spec& s, const Y& y) {
  const auto grid = unfold_windows(x.extent(2), x.extent(3), s);
  run_each_element(b, y.size(), cuda_unfold::forward<X, Y>{x, s, grid, y});
}

template <DeviceBackend B, class DY, class DX>
void unfold_backward_impl(const B& b, const DY& dy, const unfold_spec& s, const DX& dx) {
  const auto grid = unfold_windows(dx.extent(2), dx.extent(3), s);
  run_each_element(b, dx.size(), cuda_unfold::backward<DY, DX>{dy, s, grid, dx});
}

}  // namespace deepseek
