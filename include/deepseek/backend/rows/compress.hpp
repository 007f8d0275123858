// SPDX-License-Identifier: Apache-2.0
// The row bodies of compress (formulas in ops/compress.hpp): one entry, channels over the team;
// shared by reference and cuda.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/compress.hpp"

#include <cmath>

namespace deepseek {

// Where one entry's tokens lie. Term j is token row(j), whose number is that of column(j, c) for
// channel c; terms begin at `first`: the window before may not be there.
struct compress_window {
  index_t token;    // of the window's first token
  index_t ratio;    // m
  index_t dim;      // D
  index_t before;   // terms of the window before: 0 or m
  bool overlapped;  // twice the channels

  DEEPSEEK_HOST_DEVICE index_t terms() const { return before + ratio; }
  DEEPSEEK_HOST_DEVICE index_t row(index_t j) const { return token - before + j; }
  DEEPSEEK_HOST_DEVICE index_t phase(index_t j) const { return j < before ? j : j - before; }
  DEEPSEEK_HOST_DEVICE index_t column(index_t j, index_t c) const {
    return overlapped && j >= before ? dim + c : c;
  }
};

// The softmax of one channel: its greatest argument and sum, and the weighted mean of kv.
template <class A>
struct compress_channel {
  A top, total, mean;
};
template <class A, class In>
DEEPSEEK_HOST_DEVICE A compress_argument(const In& in, const compress_window& w, index_t j,
                                         index_t c) {
  const index_t at = w.column(j, c);
  return static_cast<A>(in.gate(w.row(j), at)) + static_cast<A>(in.ape(w.phase(j), at));
}
template <class A, class In>
DEEPSEEK_HOST_DEVICE compress_channel<A> compress_one(const In& in, const compress_window& w,
                                                      index_t c) {
  compress_channel<A> r{compress_argument<A>(in, w, 0, c), 0, 0};
  for (index_t j = 1; j < w.terms(); ++j) {
    const A z = compress_argument<A>(in, w, j, c);
    r.top = z > r.top ? z : r.top;
  }
  for (index_t j = 0; j < w.terms(); ++j) {
    const A p = std::exp(compress_argument<A>(in, w, j, c) - r.top);
    r.total += p;
    r.mean += p * static_cast<A>(in.kv(w.row(j), w.column(j, c)));
  }
  r.mean /= r.total;
  return r;
}

template <class Team, class In, class Y>
DEEPSEEK_HOST_DEVICE void compress_row(const Team& team, const In& in, const compress_window& w,
                                       const Y& y) {
  using out = typename Y::value_type;
  for (index_t c = team.rank(); c < w.dim; c += team.size()) {
    y(c) = static_cast<out>(compress_one<accumulate_t<out>>(in, w, c).mean);
  }
}

// dkv_j = p_j dy, dz_j = p_j dy (kv_j - y): dz gets the gradient of the softmax's arguments.
template <class Team, class In, class DY, class DKV, class DZ>
DEEPSEEK_HOST_DEVICE void compress_backward_row(const Team& team, const In& in,
                                                const compress_window& w, const DY& dy,
                                                const compress_views<DKV, DZ, none>& out) {
  using A = typename DZ::value_type;
  for (index_t c = team.rank(); c < w.dim; c += team.size()) {
    const compress_channel<A> r = compress_one<A>(in, w, c);
    for (index_t j = 0; j < w.terms(); ++j) {
      const index_t row = w.row(j), at = w.column(j, c);
      const A p = std::exp(compress_argument<A>(in, w, j, c) - r.top) / r.total;
      const A d = p * static_cast<A>(dy(c));
      out.kv(row, at) = static_cast<typename DKV::value_type>(d);
      out.gate(row, at) = d * (static_cast<A>(in.kv(row, at)) - r.mean);
    }
  }
}

}  // namespace deepseek
