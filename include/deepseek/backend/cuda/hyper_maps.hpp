// SPDX-License-Identifier: Apache-2.0
// sinkhorn and hyper_maps on the device: a thread for each matrix or token (the bodies of
// backend/rows), its scratch numbers spread so that those of neighbours lie together, at most 16384
// threads; sums over tokens in two passes of fixed order. See ops/sinkhorn.hpp, ops/hyper_maps.hpp.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/rows/hyper_maps.hpp"

namespace deepseek {

namespace cuda_hyper_maps {

inline constexpr index_t most_workers = 16384;

// f(t, numbers) for t < n; worker w takes t = w, w + workers, ...
template <class A, class F>
struct each_matrix {
  static constexpr int threads = 64;
  index_t n, workers;
  A* scratch;  // [count, workers]
  F f;

  index_t blocks() const { return blocks_of(workers, threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t worker = block.index() * threads + block.rank();
    if (worker >= workers) return;
    const spread_numbers<A> numbers{scratch + worker, workers};
    for (index_t t = worker; t < n; t += workers) f(t, numbers);
  }
};
template <class A, DeviceBackend B, class F>
void run_each_matrix(const B& b, index_t n, index_t count, const F& f) {
  const scope freed(b.workspace());
  const index_t workers = n < most_workers ? n : most_workers;
  A* scratch = b.workspace().template make<A, dyn, dyn>(count, workers).data();
  b.launch(each_matrix<A, F>{n, workers, scratch, f});
}

template <class A, class X, class Y>
struct matrix_forward {
  X x;
  Y y;
  sinkhorn_spec spec;
  DEEPSEEK_HOST_DEVICE void operator()(index_t t, const spread_numbers<A>& m) const {
    gather_matrix<A>(slice(x, t), m);
    sinkhorn_matrix<A>(m, x.extent(1), spec);
    scatter_matrix(m, slice(y, t));
  }
};
template <class A, class X, class DY, class DX>
struct matrix_backward {
  X x;
  DY dy;
  DX dx;
  sinkhorn_spec spec;
  DEEPSEEK_HOST_DEVICE void operator()(index_t t, const spread_numbers<A>& m) const {
    const index_t n = x.extent(1);
    const spread_numbers<A> memory = m + n * n;
    gather_matrix<A>(slice(x, t), m);
    sinkhorn_matrix<A>(m, n, spec, memory);
    gather_matrix<A>(slice(dy, t), m);
    sinkhorn_matrix_backward<A>(m, n, spec, memory);
    scatter_matrix(m, slice(dx, t));
  }
};

template <class A, class In, class Maps>
struct token_forward {
  In in;
  Maps maps;
  sinkhorn_spec spec;
  DEEPSEEK_HOST_DEVICE void operator()(index_t t, const spread_numbers<A>& m) const {
    hyper_maps_token<A>(in, maps, spec, t, m);
  }
};
template <class A, class In, class G, class DZ>
struct token_slopes {
  In in;
  G g;
  DZ dz;
  sinkhorn_spec spec;
  DEEPSEEK_HOST_DEVICE void operator()(index_t t, const spread_numbers<A>& m) const {
    hyper_slopes_token<A>(in, g, spec, t, &dz(t, 0), m);
  }
};

// dz mu: what the gradients of the scales are sums of.
template <class In, class DZ>
struct product_term {
  using A = typename DZ::value_type;
  In in;
  DZ dz;
  DEEPSEEK_HOST_DEVICE A operator()(index_t t, index_t j) const {
    return dz(t, j) * static_cast<A>(in.mu(t, j));
  }
};
template <class A, class Out>
struct add_scales {
  Out out;
  const A* products;
  index_t n;
  DEEPSEEK_HOST_DEVICE void operator()(index_t) const { hyper_add_scales(out, products, n); }
};
template <class In, class DZ, class DMu>
struct mu_gradient {
  using A = typename DZ::value_type;
  In in;
  DZ dz;
  DMu dmu;
  index_t n;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t t = i / dz.extent(1), j = i % dz.extent(1);
    dmu(t, j) = static_cast<typename DMu::value_type>(dz(t, j) *
                                                      static_cast<A>(in.scale(hyper_part(j, n))));
  }
};

}  // namespace cuda_hyper_maps

template <DeviceBackend B, class X, class Y>
void sinkhorn_impl(const B& b, const X& x, const Y& y, const sinkhorn_spec& spec) {
  using A = accumulate_t<typename Y::value_type>;
  const index_t n = x.extent(1);
  cuda_hyper_maps::run_each_matrix<A>(b, x.extent(0), n * n,
                                      cuda_hyper_maps::matrix_forward<A, X, Y>{x, y, spec});
}

template <DeviceBackend B, class X, class DY, class DX>
void sinkhorn_backward_impl(const B& b, const X& x, const DY& dy, const DX& dx,
                            const sinkhorn_spec& spec) {
  using A = accumulate_t<typename DX::value_type>;
  const index_t n = x.extent(1);
  cuda_hyper_maps::run_each_matrix<A>(
      b, x.extent(0), n * n + sinkhorn_memory(spec, n),
      cuda_hyper_maps::matrix_backward<A, X, DY, DX>{x, dy, dx, spec});
}

template <DeviceBackend B, class In, class Maps>
void hyper_maps_impl(const B& b, const In& in, const Maps& maps, const sinkhorn_spec& spec) {
  using A = accumulate_t<typename decltype(maps.pre)::value_type>;
  const index_t n = maps.pre.extent(1);
  cuda_hyper_maps::run_each_matrix<A>(b, maps.pre.extent(0), n * n,
                                      cuda_hyper_maps::token_forward<A, In, Maps>{in, maps, spec});
}

template <DeviceBackend B, class In, class G, class Out>
void hyper_maps_backward_impl(const B& b, const In& in, const G& g, const Out& out,
                              const sinkhorn_spec& spec) {
  using DMu = std::remove_cvref_t<decltype(out.mu)>;
  using A = accumulate_t<typename DMu::value_type>;
  using DZ = view<A, typename B::space, dyn, dyn>;
  const index_t n = g.pre.extent(1), tokens = g.pre.extent(0), width = in.mu.extent(1);
  const scope freed(b.workspace());
  const DZ dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  const auto products = b.workspace().template make<A, dyn>(width);
  cuda_hyper_maps::run_each_matrix<A>(b, tokens, n * n + sinkhorn_memory(spec, n),
                                      cuda_hyper_maps::token_slopes<A, In, G, DZ>{in, g, dz, spec});
  fill_impl(b, 0, products);
  add_term_columns(b, tokens, cuda_column_sums::element_term<DZ, A>{dz}, out.base);
  add_term_columns(b, tokens, cuda_hyper_maps::product_term<In, DZ>{in, dz}, products);
  run_each_element(b, 1, cuda_hyper_maps::add_scales<A, Out>{out, products.data(), n});
  run_each_element(b, tokens * width, cuda_hyper_maps::mu_gradient<In, DZ, DMu>{in, dz, out.mu, n});
}

}  // namespace deepseek
