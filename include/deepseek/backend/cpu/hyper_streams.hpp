// SPDX-License-Identifier: Apache-2.0
// hyper_read and hyper_write on the cpu: the reference's loops over pieces of 8 tokens, on all
// threads; see ops/hyper_streams.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/hyper_streams.hpp"

namespace deepseek {

template <class X, class Pre, class Y>
void hyper_read_impl(const cpu& b, const X& streams, const Pre& pre, const Y& x) {
  parallel_rows(b, x.extent(0), 8, [&](index_t first, index_t last) {
    const index_t n = last - first;
    hyper_read_impl(static_cast<const reference&>(b), rows(streams, first, n), rows(pre, first, n),
                    rows(x, first, n));
  });
}

template <class V>
auto read_rows(const V& v, index_t first, index_t n) {
  return hyper_read_views{rows(v.streams, first, n), rows(v.pre, first, n)};
}
template <class In, class DX, class Out>
void hyper_read_backward_impl(const cpu& b, const In& in, const DX& dx, const Out& out) {
  parallel_rows(b, dx.extent(0), 8, [&](index_t first, index_t last) {
    const index_t n = last - first;
    hyper_read_backward_impl(static_cast<const reference&>(b), read_rows(in, first, n),
                             rows(dx, first, n), read_rows(out, first, n));
  });
}

template <class V>
auto write_rows(const V& v, index_t first, index_t n) {
  return hyper_write_views{rows(v.streams, first, n), rows(v.y, first, n), rows(v.post, first, n),
                           rows(v.mix, first, n)};
}
template <class In, class Out>
void hyper_write_impl(const cpu& b, const In& in, const Out& out) {
  parallel_rows(b, out.extent(0), 8, [&](index_t first, index_t last) {
    const index_t n = last - first;
    hyper_write_impl(static_cast<const reference&>(b), write_rows(in, first, n),
                     rows(out, first, n));
  });
}
template <class In, class DOut, class Out>
void hyper_write_backward_impl(const cpu& b, const In& in, const DOut& dout, const Out& out) {
  parallel_rows(b, dout.extent(0), 8, [&](index_t first, index_t last) {
    const index_t n = last - first;
    hyper_write_backward_impl(static_cast<const reference&>(b), write_rows(in, first, n),
                              rows(dout, first, n), write_rows(out, first, n));
  });
}

}  // namespace deepseek
