// SPDX-License-Identifier: Apache-2.0
// layer_norm on the reference backend: the row bodies one after the other; see ops/layer_norm.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/layer_norm.hpp"
#include "deepseek/ops/layer_norm.hpp"

namespace deepseek {

template <class X, class Affine, class Y>
void layer_norm_impl(const reference&, const X& x, const Affine& affine, const Y& y, double eps) {
  for (index_t i = 0; i < x.extent(0); ++i) {
    layer_norm_row(serial_team{}, slice(x, i), affine, slice(y, i), eps);
  }
}

template <class In, class DY, class Out>
void layer_norm_backward_impl(const reference& b, const In& in, const DY& dy, const Out& out,
                              double eps) {
  using dw_type = typename decltype(out.dw)::value_type;
  using dbias_type = typename decltype(out.dbias)::value_type;
  using sum = std::common_type_t<accumulate_t<typename decltype(out.dx)::value_type>,
                                 accumulate_t<dw_type>, accumulate_t<dbias_type>>;
  const index_t n = in.x.extent(0);
  const scope scratch(b.workspace());
  const auto m = b.workspace().template make<row_moments<sum>, dyn>(n);
  for (index_t i = 0; i < n; ++i) {
    m(i) = layer_norm_moments<sum>(serial_team{}, slice(in.x, i), eps);
  }
  for (index_t j = 0; j < in.x.extent(1); ++j) {  // before dx, which may lie over dy
    const sum dw = row_sum(serial_team{}, n, [&](index_t i) {
      return static_cast<sum>(dy(i, j)) * ((static_cast<sum>(in.x(i, j)) - m(i).mean) * m(i).scale);
    });
    const sum dbias =
        row_sum(serial_team{}, n, [&](index_t i) { return static_cast<sum>(dy(i, j)); });
    out.dw(j) = static_cast<dw_type>(static_cast<sum>(out.dw(j)) + dw);
    out.dbias(j) = static_cast<dbias_type>(static_cast<sum>(out.dbias(j)) + dbias);
  }
  for (index_t i = 0; i < n; ++i) {
    const layer_norm_inputs row{slice(in.x, i), in.w};
    layer_norm_backward_row(serial_team{}, row, slice(dy, i), slice(out.dx, i), m(i));
  }
}

}  // namespace deepseek
