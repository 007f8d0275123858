// SPDX-License-Identifier: Apache-2.0
// hyper_maps on the reference backend, token by token; see ops/hyper_maps.hpp. Backward first forms
// the gradients dz of all arguments z = mu a + b, then their sums over the tokens.
#pragma once

#include "deepseek/backend/reference/sinkhorn.hpp"
#include "deepseek/backend/rows/hyper_maps.hpp"
#include "deepseek/backend/rows/row_sum.hpp"

namespace deepseek {

template <class In, class Maps>
void hyper_maps_impl(const reference& b, const In& in, const Maps& maps,
                     const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(maps.pre)::value_type>;
  const index_t n = maps.pre.extent(1);
  const scope freed(b.workspace());
  A* m = b.workspace().template make<A, dyn>(n * n).data();
  for (index_t t = 0; t < maps.pre.extent(0); ++t) hyper_maps_token<A>(in, maps, spec, t, m);
}

// Columns first .. last - 1: their sums over the tokens to dbase; sums of dz mu to `products`.
template <class A, class In, class DZ, class Out>
void hyper_column_sums(const In& in, const DZ& dz, const Out& out, A* products, index_t first,
                       index_t last) {
  using T = typename decltype(out.base)::value_type;
  for (index_t j = first; j < last; ++j) {
    const index_t tokens = dz.extent(0);
    const A sum = row_sum(serial_team{}, tokens, [&](index_t t) { return dz(t, j); });
    out.base(j) = static_cast<T>(static_cast<A>(out.base(j)) + sum);
    products[j] = row_sum(serial_team{}, tokens,
                          [&](index_t t) { return dz(t, j) * static_cast<A>(in.mu(t, j)); });
  }
}
template <class In, class G, class Out>
void hyper_maps_backward_impl(const reference& b, const In& in, const G& g, const Out& out,
                              const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(out.mu)::value_type>;
  const index_t n = g.pre.extent(1), tokens = g.pre.extent(0), width = in.mu.extent(1);
  const scope freed(b.workspace());
  const auto dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  A* products = b.workspace().template make<A, dyn>(width).data();
  A* m = b.workspace().template make<A, dyn>(n * n + sinkhorn_memory(spec, n)).data();
  for (index_t t = 0; t < tokens; ++t) {
    hyper_slopes_token<A>(in, g, spec, t, &dz(t, 0), m);
  }
  hyper_column_sums<A>(in, dz, out, products, 0, width);
  hyper_add_scales<A>(out, products, n);
  for (index_t t = 0; t < tokens; ++t) hyper_dmu_token<A>(in, out, &dz(t, 0), n, t);
}

}  // namespace deepseek
