// SPDX-License-Identifier: Apache-2.0
// The bodies of hyper_maps (formulas in ops/hyper_maps.hpp): one worker does one token; shared by
// reference and cuda.
#pragma once

#include "deepseek/backend/rows/sinkhorn.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/hyper_maps.hpp"

namespace deepseek {

// The maps of token t; m: room for n n numbers.
template <class A, class In, class Maps, class Room>
DEEPSEEK_HOST_DEVICE void hyper_maps_token(const In& in, const Maps& maps,
                                           const sinkhorn_spec& spec, index_t t, Room m) {
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
    sinkhorn_matrix<A>(m, n, spec);
    scatter_matrix(m, slice(maps.mix, t));
  }
}

// dz of token t, [(2 + n) n] numbers; m: room for n n numbers and sinkhorn_memory.
template <class A, class In, class G, class Room>
DEEPSEEK_HOST_DEVICE void hyper_slopes_token(const In& in, const G& g, const sinkhorn_spec& spec,
                                             index_t t, A* dz, Room m) {
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
    const Room memory = m + n * n;
    A* const d = dz + 2 * n;
    for (index_t i = 0; i < n * n; ++i) m[i] = argument(2 * n + i, 2);
    sinkhorn_matrix<A>(m, n, spec, memory);
    gather_matrix<A>(slice(g.mix, t), d);
    sinkhorn_matrix_backward<A>(d, n, spec, memory);
  }
}

// Which of the three scales column j meets.
DEEPSEEK_HOST_DEVICE constexpr index_t hyper_part(index_t j, index_t n) {
  return j < n ? 0 : j < 2 * n ? 1 : 2;
}

template <class A, class Out>
DEEPSEEK_HOST_DEVICE void hyper_add_scales(const Out& out, const A* products, index_t n) {
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
DEEPSEEK_HOST_DEVICE void hyper_dmu_token(const In& in, const Out& out, const A* dz, index_t n,
                                          index_t t) {
  using T = typename decltype(out.mu)::value_type;
  for (index_t j = 0; j < out.mu.extent(1); ++j) {
    out.mu(t, j) = static_cast<T>(dz[j] * static_cast<A>(in.scale(hyper_part(j, n))));
  }
}

}  // namespace deepseek
