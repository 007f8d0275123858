// SPDX-License-Identifier: Apache-2.0
// grouped_linear<I, O, G>: G linear maps side by side, each of its own columns: y_j = W_j x_j.
// x [tokens, G I], y [tokens, G O], weight [G O, I]: rows j O .. j O + O - 1 are W_j. No bias,
// plain weights. Row-wise. Cost: 2 tokens G I O flops: a G-th of linear<G I, G O>.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/gemm.hpp"

namespace deepseek {

template <index_t I, index_t O, index_t G>
struct grouped_linear {
  static_assert(I > 0 && O > 0 && G > 0,
                "deepseek::grouped_linear: a size is not positive; write grouped_linear<in, out, "
                "groups>");
  static constexpr index_t in = G * I, out = G * O;
  static constexpr const char* label = "linear";

  template <class T, class S>
  struct parameters {
    using layer = grouped_linear;
    tensor<T, S, out, I> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &parameters::weight)}; }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K&) {
    static_assert(width_fits<X, in>,
                  "deepseek::grouped_linear: the input's width is not groups x in; write "
                  "grouped_linear<in, out, groups> with the width of one group");
    for (index_t j = 0; j < G; ++j) {
      ops::gemm(c.backend, columns<I>(x, j), transposed(rows(p.weight.view(), j * O, O)),
                columns<O>(y, j));
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class Grad>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K&,
                       Grad& g) {
    for (index_t j = 0; j < G; ++j) {
      ops::gemm_backward(
          c.backend, gemm_inputs{columns<I>(x, j), transposed(rows(p.weight.view(), j * O, O))},
          columns<O>(dy, j),
          gemm_gradients{columns<I>(dx, j), transposed(rows(g.weight.view(), j * O, O))});
    }
  }

 private:
  // Columns j Width .. of every row.
  template <index_t Width, class T, class S, index_t N, index_t W>
  static view<T, S, N, Width> columns(const view<T, S, N, W>& v, index_t j) {
    return {v.data() + j * Width * v.stride(1), {v.extent(0), Width}, {v.stride(0), v.stride(1)}};
  }
};

}  // namespace deepseek
