// SPDX-License-Identifier: Apache-2.0
// rms_norm on the device: the row bodies of backend/rows over a warp or a block; dw in two passes
// of fixed order (slabs of rows, then the slabs). See ops/rms_norm.hpp.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/rows/rms_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

namespace deepseek {

namespace cuda_rms_norm {

template <class X, class W, class Y>
struct forward {
  X x;
  W w;
  Y y;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    rms_norm_row(team, slice(x, row), w, slice(y, row), eps);
  }
};

template <class X, class R>
struct scales {
  X x;
  R r;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const auto scale = rms_norm_scale<typename R::value_type>(team, slice(x, row), eps);
    if (team.rank() == 0) r(row) = scale;
  }
};

// dy * xhat: what dw is the column sums of.
template <class X, class DY, class R>
struct weight_term {
  using sum = typename R::value_type;
  X x;
  DY dy;
  R r;
  DEEPSEEK_HOST_DEVICE sum operator()(index_t row, index_t j) const {
    return static_cast<sum>(dy(row, j)) * (static_cast<sum>(x(row, j)) * r(row));
  }
};

template <class In, class DY, class DX, class R>
struct backward {
  In in;
  DY dy;
  DX dx;
  R r;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const rms_norm_inputs<decltype(slice(in.x, row)), decltype(in.w)> at{slice(in.x, row), in.w};
    rms_norm_backward_row(team, at, slice(dy, row), slice(dx, row), r(row));
  }
};

}  // namespace cuda_rms_norm

template <DeviceBackend B, class X, class W, class Y>
void rms_norm_impl(const B& b, const X& x, const W& w, const Y& y, double eps) {
  run_each_row(b, x.extent(0), x.extent(1), cuda_rms_norm::forward<X, W, Y>{x, w, y, eps});
}

template <DeviceBackend B, class In, class DY, class Out>
void rms_norm_backward_impl(const B& b, const In& in, const DY& dy, const Out& out, double eps) {
  using X = std::remove_cvref_t<decltype(in.x)>;
  using DX = std::remove_cvref_t<decltype(out.dx)>;
  using sum = std::common_type_t<accumulate_t<typename DX::value_type>,
                                 accumulate_t<typename decltype(out.dw)::value_type>>;
  using R = view<sum, typename B::space, dyn>;
  const index_t n = in.x.extent(0), dim = in.x.extent(1);
  const scope freed(b.workspace());
  const R r = b.workspace().template make<sum, dyn>(n);
  run_each_row(b, n, dim, cuda_rms_norm::scales<X, R>{in.x, r, eps});
  // Before dx, which may lie over dy.
  add_term_columns(b, n, cuda_rms_norm::weight_term<X, DY, R>{in.x, dy, r}, out.dw);
  run_each_row(b, n, dim, cuda_rms_norm::backward<In, DY, DX, R>{in, dy, out.dx, r});
}

}  // namespace deepseek
