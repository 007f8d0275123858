// SPDX-License-Identifier: Apache-2.0
// rms_norm on the reference backend: the row bodies one after the other; see ops/rms_norm.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/fill.hpp"
#include "deepseek/backend/rows/rms_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

namespace deepseek {

template <class X, class W, class Y>
void rms_norm_impl(const reference&, const X& x, const W& w, const Y& y, double eps) {
  for (index_t i = 0; i < x.extent(0); ++i) {
    rms_norm_row(serial_team{}, slice(x, i), w, slice(y, i), eps);
  }
}

template <class In, class DY, class Out>
void rms_norm_backward_impl(const reference& b, const In& in, const DY& dy, const Out& out,
                            double eps) {
  using dw_type = typename decltype(out.dw)::value_type;
  using sum = std::common_type_t<accumulate_t<typename decltype(out.dx)::value_type>,
                                 accumulate_t<dw_type>>;
  const index_t n = in.x.extent(0);
  const scope scratch(b.workspace());
  const auto r = b.workspace().template make<sum, dyn>(n);
  for (index_t i = 0; i < n; ++i) r(i) = rms_norm_scale<sum>(serial_team{}, slice(in.x, i), eps);
  for (index_t j = 0; j < in.x.extent(1); ++j) {  // before dx, which may lie over dy
    const sum added = row_sum(serial_team{}, n, [&](index_t i) {
      return static_cast<sum>(dy(i, j)) * (static_cast<sum>(in.x(i, j)) * r(i));
    });
    out.dw(j) = static_cast<dw_type>(static_cast<sum>(out.dw(j)) + added);
  }
  for (index_t i = 0; i < n; ++i) {
    const rms_norm_inputs row{slice(in.x, i), in.w};
    rms_norm_backward_row(serial_team{}, row, slice(dy, i), slice(out.dx, i), r(i));
  }
}

}  // namespace deepseek
