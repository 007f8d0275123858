// SPDX-License-Identifier: Apache-2.0
// The bodies of hyper_maps, hyper_read and hyper_write (formulas in their contracts): one token,
// shared by reference and cuda. Streams are [n, dim], a matrix of maps [n, n].
#pragma once

#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/hyper_streams.hpp"

namespace deepseek {

template <class Team, class X, class Pre, class Y>
DEEPSEEK_HOST_DEVICE void hyper_read_row(const Team& team, const X& streams, const Pre& pre,
                                         const Y& x) {
  using out = typename Y::value_type;
  using A = accumulate_t<out>;
  for (index_t d = team.rank(); d < x.extent(0); d += team.size()) {
    A sum = 0;
    for (index_t i = 0; i < pre.extent(0); ++i) {
      sum += static_cast<A>(pre(i)) * static_cast<A>(streams(i, d));
    }
    x(d) = static_cast<out>(sum);
  }
}

template <class Team, class In, class DX, class Out>
DEEPSEEK_HOST_DEVICE void hyper_read_backward_row(const Team& team, const In& in, const DX& dx,
                                                  const Out& out) {
  using map = typename decltype(out.pre)::value_type;
  using stream = typename decltype(out.streams)::value_type;
  using M = accumulate_t<map>;
  using A = accumulate_t<stream>;
  for (index_t i = 0; i < in.pre.extent(0); ++i) {
    const M sum = row_sum(team, dx.extent(0), [&](index_t d) {
      return static_cast<M>(dx(d)) * static_cast<M>(in.streams(i, d));
    });
    if (team.rank() == 0) out.pre(i) = static_cast<map>(sum);
    const A by = static_cast<A>(in.pre(i));
    for (index_t d = team.rank(); d < dx.extent(0); d += team.size()) {
      out.streams(i, d) =
          static_cast<stream>(static_cast<A>(out.streams(i, d)) + by * static_cast<A>(dx(d)));
    }
  }
}

template <class Team, class In, class Out>
DEEPSEEK_HOST_DEVICE void hyper_write_row(const Team& team, const In& in, const Out& out) {
  using result = typename Out::value_type;
  using A = accumulate_t<result>;
  const index_t n = in.post.extent(0);
  for (index_t j = 0; j < n; ++j) {
    for (index_t d = team.rank(); d < in.y.extent(0); d += team.size()) {
      A sum = static_cast<A>(in.post(j)) * static_cast<A>(in.y(d));
      for (index_t i = 0; i < n; ++i) {
        sum += static_cast<A>(in.mix(i, j)) * static_cast<A>(in.streams(i, d));
      }
      out(j, d) = static_cast<result>(sum);
    }
  }
}

// The gradients of the maps: one product of two rows each.
template <class Team, class In, class DOut, class Out>
DEEPSEEK_HOST_DEVICE void hyper_write_map_gradients(const Team& team, const In& in,
                                                    const DOut& dout, const Out& out) {
  using post = typename decltype(out.post)::value_type;
  using mix = typename decltype(out.mix)::value_type;
  const index_t n = in.post.extent(0), dim = in.y.extent(0);
  for (index_t j = 0; j < n; ++j) {
    using P = accumulate_t<post>;
    const P along_y = row_sum(
        team, dim, [&](index_t d) { return static_cast<P>(dout(j, d)) * static_cast<P>(in.y(d)); });
    if (team.rank() == 0) out.post(j) = static_cast<post>(along_y);
    for (index_t i = 0; i < n; ++i) {
      using A = accumulate_t<mix>;
      const A along_x = row_sum(team, dim, [&](index_t d) {
        return static_cast<A>(dout(j, d)) * static_cast<A>(in.streams(i, d));
      });
      if (team.rank() == 0) out.mix(i, j) = static_cast<mix>(along_x);
    }
  }
}
// The gradients of y and of the streams.
template <class Team, class In, class DOut, class Out>
DEEPSEEK_HOST_DEVICE void hyper_write_row_gradients(const Team& team, const In& in,
                                                    const DOut& dout, const Out& out) {
  using row = typename decltype(out.y)::value_type;
  using stream = typename decltype(out.streams)::value_type;
  using R = accumulate_t<row>;
  using A = accumulate_t<stream>;
  const index_t n = in.post.extent(0);
  for (index_t d = team.rank(); d < in.y.extent(0); d += team.size()) {
    R dy = 0;
    for (index_t j = 0; j < n; ++j) {
      dy += static_cast<R>(in.post(j)) * static_cast<R>(dout(j, d));
    }
    out.y(d) = static_cast<row>(dy);
    for (index_t i = 0; i < n; ++i) {
      A sum = 0;
      for (index_t j = 0; j < n; ++j) {
        sum += static_cast<A>(in.mix(i, j)) * static_cast<A>(dout(j, d));
      }
      out.streams(i, d) = static_cast<stream>(sum);
    }
  }
}

}  // namespace deepseek
