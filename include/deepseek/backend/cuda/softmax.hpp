// SPDX-License-Identifier: Apache-2.0
// softmax on the device: the row bodies of backend/rows over a warp or a block. See
// ops/softmax.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/softmax.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

namespace cuda_softmax {

template <class X, class Y>
struct forward {
  X x;
  Y y;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    softmax_row(team, slice(x, row), slice(y, row));
  }
};

template <class Y, class DY, class DX>
struct backward {
  Y y;
  DY dy;
  DX dx;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    softmax_backward_row(team, slice(y, row), slice(dy, row), slice(dx, row));
  }
};

}  // namespace cuda_softmax

template <DeviceBackend B, class X, class Y>
void softmax_impl(const B& b, const X& x, const Y& y) {
  run_each_row(b, x.extent(0), x.extent(1), cuda_softmax::forward<X, Y>{x, y});
}

template <DeviceBackend B, class Y, class DY, class DX>
void softmax_backward_impl(const B& b, const Y& y, const DY& dy, const DX& dx) {
  run_each_row(b, y.extent(0), y.extent(1), cuda_softmax::backward<Y, DY, DX>{y, dy, dx});
}

}  // namespace deepseek
