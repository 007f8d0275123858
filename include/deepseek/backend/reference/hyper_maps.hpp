// SPDX-License-Identifier: Apache-2.0
// hyper_maps on the reference backend, token by token; see ops/hyper_maps.hpp. Backward first forms
// the gradients dz of all arguments z = mu a + b, then their sums over the tokens.
#pragma once

#include "deepseek/backend/reference/sinkhorn.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/hyper_maps.hpp"

namespace deepseek {

// The maps of token t; m: room for n n numbers.
template <class A, class In, class Maps>
void hyper_maps_token(const In& in, const Maps& maps, const sinkhorn_spec& spec, index_t t, A* m) {
  using T = typename decltype(maps.pre)::value_type;
  const index_t n = maps.pre.extent(1);
  const auto argument = [&](index_t j, index_t part) {
    return static_cast<A>(in.mu(t, j)) * static_cast<A>(in.scale(part)) +
           static_cast<A>(in.base(j));
  };
  for (index_t i = 0; i < n; ++i) {
    maps.pre(t, i) = static_cast<T>(math::sigmoid(argument(i, 0)) + static_cast<A>(spec.eps));
  }
  if constexpr (!hyper_checks::only_pre<Maps>) {
    using P = typename decltype(maps.post)::value_type;
    for (index_t i = 0; i < n; ++i) {
      maps.post(t, i) = static_cast<P>(A(2) * math::sigmoid(argument(n + i, 1)));
    }
    for (index_t i = 0; i < n * n; ++i) m[i] = argument(2 * n + i, 2);
    sinkhorn_matrix<A>(m, n, spec, nullptr);
    scatter_matrix(m, slice(maps.mix, t));
  }
}

// dz of token t, [(2 + n) n] numbers; m: room for n n numbers and sinkhorn_memory.
template <class A, class In, class G>
void hyper_slopes_token(const In& in, const G& g, const sinkhorn_spec& spec, index_t t, A* dz,
                        A* m) {
  const index_t n = g.pre.extent(1);
  const auto argument = [&](index_t j, index_t part) {
    return static_cast<A>(in.mu(t, j)) * static_cast<A>(in.scale(part)) +
           static_cast<A>(in.base(j));
  };
  for (index_t i = 0; i < n; ++i) {
    dz[i] = static_cast<A>(g.pre(t, i)) * math::sigmoid_derivative(argument(i, 0));
  }
  if constexpr (!hyper_checks::only_pre<G>) {
    for (index_t i = 0; i < n; ++i) {
      dz[n + i] =
          A(2) * static_cast<A>(g.post(t, i)) * math::sigmoid_derivative(argument(n + i, 1));
    }
    A *memory = m + n * n, *d = dz + 2 * n;
    for (index_t i = 0; i < n * n; ++i) m[i] = argument(2 * n + i, 2);
    sinkhorn_matrix<A>(m, n, spec, memory);
    gather_matrix(slice(g.mix, t), d);
    sinkhorn_matrix_backward<A>(d, n, spec, memory);
  }
}

template <class In, class Maps>
void hyper_maps_impl(const reference& b, const In& in, const Maps& maps,
                     const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(maps.pre)::value_type>;
  const index_t n = maps.pre.extent(1);
  const scope freed(b.workspace());
  A* m = b.workspace().template make<A, dyn>(n * n).data();
  for (index_t t = 0; t < maps.pre.extent(0); ++t) hyper_maps_token<A>(in, maps, spec, t, m);
}

// Which of the three scales column j meets.
inline index_t hyper_part(index_t j, index_t n) {
  return j < n ? 0 : j < 2 * n ? 1 : 2;
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
template <class A, class Out>
void hyper_add_scales(const Out& out, const A* products, index_t n) {
  using T = typename decltype(out.scale)::value_type;
  for (index_t part = 0; part < out.scale.extent(0); ++part) {
    A sum = 0;
    for (index_t j = 0; j < out.base.extent(0); ++j) {
      if (hyper_part(j, n) == part) sum += products[j];
    }
    out.scale(part) = static_cast<T>(static_cast<A>(out.scale(part)) + sum);
  }
}
// dmu of token t from dz.
template <class A, class In, class Out>
void hyper_dmu_token(const In& in, const Out& out, const A* dz, index_t n, index_t t) {
  using T = typename decltype(out.mu)::value_type;
  for (index_t j = 0; j < out.mu.extent(1); ++j) {
    out.mu(t, j) = static_cast<T>(dz[j] * static_cast<A>(in.scale(hyper_part(j, n))));
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
