// SPDX-License-Identifier: Apache-2.0
// sinkhorn and hyper_maps on the cpu: the reference's bodies over pieces of 8 matrices or tokens on
// all threads, scratch numbers of its own for each piece; see ops/hyper_maps.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/hyper_maps.hpp"

namespace deepseek {

// f(first, last, numbers) over n rows in pieces of 8; `count` scratch numbers of A for each piece.
template <class A, class F>
void parallel_rows_with(const cpu& b, index_t n, index_t count, const F& f) {
  constexpr index_t size = 8;
  const scope freed(b.workspace());
  A* all = b.workspace().template make<A, dyn, dyn>(chunks_of(n, size), count).data();
  parallel_rows(b, n, size,
                [&](index_t first, index_t last) { f(first, last, all + first / size * count); });
}

template <class X, class Y>
void sinkhorn_impl(const cpu& b, const X& x, const Y& y, const sinkhorn_spec& spec) {
  using A = accumulate_t<typename Y::value_type>;
  const index_t n = x.extent(1);
  parallel_rows_with<A>(b, x.extent(0), n * n, [&](index_t first, index_t last, A* m) {
    for (index_t t = first; t < last; ++t) {
      gather_matrix<A>(slice(x, t), m);
      sinkhorn_matrix<A>(m, n, spec);
      scatter_matrix(m, slice(y, t));
    }
  });
}

template <class X, class DY, class DX>
void sinkhorn_backward_impl(const cpu& b, const X& x, const DY& dy, const DX& dx,
                            const sinkhorn_spec& spec) {
  using A = accumulate_t<typename DX::value_type>;
  const index_t n = x.extent(1), count = n * n + sinkhorn_memory(spec, n);
  parallel_rows_with<A>(b, x.extent(0), count, [&](index_t first, index_t last, A* m) {
    for (index_t t = first; t < last; ++t) {
      gather_matrix<A>(slice(x, t), m);
      sinkhorn_matrix<A>(m, n, spec, m + n * n);
      gather_matrix<A>(slice(dy, t), m);
      sinkhorn_matrix_backward<A>(m, n, spec, m + n * n);
      scatter_matrix(m, slice(dx, t));
    }
  });
}

template <class In, class Maps>
void hyper_maps_impl(const cpu& b, const In& in, const Maps& maps, const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(maps.pre)::value_type>;
  const index_t n = maps.pre.extent(1);
  parallel_rows_with<A>(b, maps.pre.extent(0), n * n, [&](index_t first, index_t last, A* m) {
    for (index_t t = first; t < last; ++t) hyper_maps_token<A>(in, maps, spec, t, m);
  });
}

template <class In, class G, class Out>
void hyper_maps_backward_impl(const cpu& b, const In& in, const G& g, const Out& out,
                              const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(out.mu)::value_type>;
  const index_t n = g.pre.extent(1), tokens = g.pre.extent(0), width = in.mu.extent(1);
  const scope freed(b.workspace());
  const auto dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  A* products = b.workspace().template make<A, dyn>(width).data();
  const index_t count = n * n + sinkhorn_memory(spec, n);
  parallel_rows_with<A>(b, tokens, count, [&](index_t first, index_t last, A* m) {
    for (index_t t = first; t < last; ++t) hyper_slopes_token<A>(in, g, spec, t, &dz(t, 0), m);
  });
  parallel_rows(b, width, 4, [&](index_t first, index_t last) {
    hyper_column_sums<A>(in, dz, out, products, first, last);
  });
  hyper_add_scales<A>(out, products, n);
  parallel_rows(b, tokens, 8, [&](index_t first, index_t last) {
    for (index_t t = first; t < last; ++t) hyper_dmu_token<A>(in, out, &dz(t, 0), n, t);
  });
}

}  // namespace deepseek
