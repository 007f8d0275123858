// SPDX-License-Identifier: Apache-2.0
// hyper_read and hyper_write on the reference backend, token by token; see ops/hyper_streams.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/hyper_connection.hpp"

namespace deepseek {

template <class X, class Pre, class Y>
void hyper_read_impl(const reference&, const X& streams, const Pre& pre, const Y& x) {
  for (index_t t = 0; t < x.extent(0); ++t) {
    hyper_read_row(serial_team{}, slice(streams, t), slice(pre, t), slice(x, t));
  }
}

template <class In, class DX, class Out>
void hyper_read_backward_impl(const reference&, const In& in, const DX& dx, const Out& out) {
  for (index_t t = 0; t < dx.extent(0); ++t) {
    hyper_read_backward_row(serial_team{}, hyper_read_views{slice(in.streams, t), slice(in.pre, t)},
                            slice(dx, t),
                            hyper_read_views{slice(out.streams, t), slice(out.pre, t)});
  }
}

template <class V>
auto token_of(const V& v, index_t t) {
  return hyper_write_views{slice(v.streams, t), slice(v.y, t), slice(v.post, t), slice(v.mix, t)};
}
template <class In, class Out>
void hyper_write_impl(const reference&, const In& in, const Out& out) {
  for (index_t t = 0; t < out.extent(0); ++t) {
    hyper_write_row(serial_team{}, token_of(in, t), slice(out, t));
  }
}
template <class In, class DOut, class Out>
void hyper_write_backward_impl(const reference&, const In& in, const DOut& dout, const Out& out) {
  for (index_t t = 0; t < dout.extent(0); ++t) {
    const auto from = token_of(in, t);
    const auto to = token_of(out, t);
    hyper_write_map_gradients(serial_team{}, from, slice(dout, t), to);
    hyper_write_row_gradients(serial_team{}, from, slice(dout, t), to);
  }
}

}  // namespace deepseek
