// SPDX-License-Identifier: Apache-2.0
// unit_rows on the device: the row bodies of backend/rows over a warp or a block. See
// ops/unit_rows.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/unit_rows.hpp"
#include "deepseek/ops/unit_rows.hpp"

namespace deepseek {

namespace cuda_unit_rows {

template <class X, class Y, class N>
struct forward {
  X x;
  Y y;
  N norms;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const auto norm = unit_row(team, slice(x, row), slice(y, row), eps);
    if (team.rank() == 0) norms(row) = convert_to<typename N::value_type>(norm);
  }
};

template <class Y, class N, class DY, class DX>
struct backward {
  Y y;
  N norms;
  DY dy;
  DX dx;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    using A = accumulate_t<typename DX::value_type>;
    unit_backward_row(team, slice(y, row), slice(dy, row), slice(dx, row),
                      convert_to<A>(norms(row)));
  }
};

}  // namespace cuda_unit_rows

template <DeviceBackend B, class X, class Y, class N>
void unit_rows_impl(const B& b, const X& x, const Y& y, const N& norms, double eps) {
  run_each_row(b, x.extent(0), x.extent(1), cuda_unit_rows::forward<X, Y, N>{x, y, norms, eps});
}
template <DeviceBackend B, class Y, class N, class DY, class DX>
void unit_rows_backward_impl(const B& b, const Y& y, const N& norms, const DY& dy, const DX& dx) {
  run_each_row(b, y.extent(0), y.extent(1),
               cuda_unit_rows::backward<Y, N, DY, DX>{y, norms, dy, dx});
}

}  // namespace deepseek
