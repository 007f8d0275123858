// SPDX-License-Identifier: Apache-2.0
// sinkhorn on the reference backend, matrix by matrix; see ops/sinkhorn.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/sinkhorn.hpp"
#include "deepseek/core/dtype.hpp"

namespace deepseek {

template <class X, class Y>
void sinkhorn_impl(const reference& b, const X& x, const Y& y, const sinkhorn_spec& spec) {
  using A = accumulate_t<typename Y::value_type>;
  const index_t n = x.extent(1);
  const scope freed(b.workspace());
  A* m = b.workspace().template make<A, dyn>(n * n).data();
  for (index_t t = 0; t < x.extent(0); ++t) {
    gather_matrix<A>(slice(x, t), m);
    sinkhorn_matrix<A>(m, n, spec);
    scatter_matrix(m, slice(y, t));
  }
}

template <class X, class DY, class DX>
void sinkhorn_backward_impl(const reference& b, const X& x, const DY& dy, const DX& dx,
                            const sinkhorn_spec& spec) {
  using A = accumulate_t<typename DX::value_type>;
  const index_t n = x.extent(1);
  const scope freed(b.workspace());
  A* m = b.workspace().template make<A, dyn>(n * n).data();
  A* memory = b.workspace().template make<A, dyn>(sinkhorn_memory(spec, n)).data();
  for (index_t t = 0; t < x.extent(0); ++t) {
    gather_matrix<A>(slice(x, t), m);
    sinkhorn_matrix<A>(m, n, spec, memory);
    gather_matrix<A>(slice(dy, t), m);
    sinkhorn_matrix_backward<A>(m, n, spec, memory);
    scatter_matrix(m, slice(dx, t));
  }
}

}  // namespace deepseek
