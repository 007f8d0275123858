// SPDX-License-Identifier: Apache-2.0
// layer_norm on the device: a row kept in registers (held_rows.hpp); longer rows and double by the
// row bodies of backend/rows over a warp or a block; dw and dbias in two passes of fixed order
// (slabs of rows, then the slabs). See ops/layer_norm.hpp.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/rows/layer_norm.hpp"
#include "deepseek/ops/layer_norm.hpp"

namespace deepseek {

namespace cuda_layer_norm {

template <class X, class Affine, class Y>
struct forward {
  X x;
  Affine affine;
  Y y;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    layer_norm_row(team, slice(x, row), affine, slice(y, row), eps);
  }
};

template <class X, class M>
struct moments_of {
  X x;
  M m;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    using sum = decltype(m(index_t{0}).mean);
    const auto found = layer_norm_moments<sum>(team, slice(x, row), eps);
    if (team.rank() == 0) m(row) = found;
  }
};

// dy * xhat and dy: what dw and dbias are the column sums of.
template <class Sum>
struct both_sums {
  Sum w, bias;
  DEEPSEEK_HOST_DEVICE both_sums& operator+=(const both_sums& o) {
    w += o.w;
    bias += o.bias;
    return *this;
  }
};
template <class X, class DY, class M>
struct terms {
  using sum = decltype(M::value_type::mean);
  X x;
  DY dy;
  M m;
  DEEPSEEK_HOST_DEVICE both_sums<sum> operator()(index_t row, index_t j) const {
    const auto at = m(row);
    const sum d = static_cast<sum>(dy(row, j));
    return {d * ((static_cast<sum>(x(row, j)) - at.mean) * at.scale), d};
  }
};
template <class DW, class DBias>
struct gradients {
  DW dw;
  DBias dbias;
  index_t extent(int) const { return dw.extent(0); }
};
template <class DW, class DBias, class Sum>
DEEPSEEK_HOST_DEVICE void add_to_column(const gradients<DW, DBias>& out, index_t j,
                                        const both_sums<Sum>& s) {
  out.dw(j) = static_cast<typename DW::value_type>(static_cast<Sum>(out.dw(j)) + s.w);
  out.dbias(j) = static_cast<typename DBias::value_type>(static_cast<Sum>(out.dbias(j)) + s.bias);
}

template <class In, class DY, class DX, class M>
struct backward {
  In in;
  DY dy;
  DX dx;
  M m;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const layer_norm_inputs<decltype(slice(in.x, row)), decltype(in.w)> at{slice(in.x, row), in.w};
    layer_norm_backward_row(team, at, slice(dy, row), slice(dx, row), m(row));
  }
};

template <class X, class Affine, class Y>
struct held_forward {
  using W = std::remove_cvref_t<decltype(std::declval<Affine>().w)>;
  using Bias = std::remove_cvref_t<decltype(std::declval<Affine>().bias)>;
  static constexpr int count = run_length<typename X::value_type, typename W::value_type,
                                          typename Bias::value_type, typename Y::value_type>();
  X x;
  Affine affine;
  Y y;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename X::value_type;
    using out = typename Y::value_type;
    using A = accumulate_t<out>;
    held_row<T, count> held;
    held.load(team, slice(x, row), span);
    const auto to = slice(y, row);
    const auto sum_of = [&](const auto& f) {
      return held.sum(team, span, [&](T v) { return f(static_cast<A>(v)); });
    };
    const auto of = row_moments_by(sum_of, static_cast<A>(span.n), static_cast<A>(eps));
    held.each_run(team, span, [&](int first, const T* run) {
      alignas(vector_bytes) typename W::value_type weight[count];
      alignas(vector_bytes) typename Bias::value_type bias[count];
      alignas(vector_bytes) out result[count];
      load_part<count>(affine.w, first, span, weight);
      load_part<count>(affine.bias, first, span, bias);
      for (int k = 0; k < count; ++k) {
        const A normed = (static_cast<A>(run[k]) - of.mean) * of.scale;
        result[k] = static_cast<out>(static_cast<A>(weight[k]) * normed + static_cast<A>(bias[k]));
      }
      store_part<count>(to, first, span, result);
    });
  }
};

}  // namespace cuda_layer_norm

template <DeviceBackend B, class X, class Affine, class Y>
void layer_norm_impl(const B& b, const X& x, const Affine& affine, const Y& y, double eps) {
  using held = cuda_layer_norm::held_forward<X, Affine, Y>;
  if constexpr (may_be_held<typename X::value_type, typename held::W::value_type,
                            typename held::Bias::value_type, typename Y::value_type>) {
    const row_shape shape{
        x.extent(0), x.extent(1),
        moves_whole(x) && moves_whole(affine.w) && moves_whole(affine.bias) && moves_whole(y)};
    if (run_each_held_row(b, shape, held{x, affine, y, eps})) return;
  }
  run_each_row(b, x.extent(0), x.extent(1),
               cuda_layer_norm::forward<X, Affine, Y>{x, affine, y, eps});
}

template <DeviceBackend B, class In, class DY, class Out>
void layer_norm_backward_impl(const B& b, const In& in, const DY& dy, const Out& out, double eps) {
  using X = std::remove_cvref_t<decltype(in.x)>;
  using DX = std::remove_cvref_t<decltype(out.dx)>;
  using DW = std::remove_cvref_t<decltype(out.dw)>;
  using DBias = std::remove_cvref_t<decltype(out.dbias)>;
  using sum = std::common_type_t<accumulate_t<typename DX::value_type>,
                                 accumulate_t<typename DW::value_type>,
                                 accumulate_t<typename DBias::value_type>>;
  using M = view<row_moments<sum>, typename B::space, dyn>;
  const index_t n = in.x.extent(0), dim = in.x.extent(1);
  const scope freed(b.workspace());
  const M m = b.workspace().template make<row_moments<sum>, dyn>(n);
  run_each_row(b, n, dim, cuda_layer_norm::moments_of<X, M>{in.x, m, eps});
  // Before dx, which may lie over dy.
  add_term_columns(b, n, cuda_layer_norm::terms<X, DY, M>{in.x, dy, m},
                   cuda_layer_norm::gradients<DW, DBias>{out.dw, out.dbias});
  run_each_row(b, n, dim, cuda_layer_norm::backward<In, DY, DX, M>{in, dy, out.dx, m});
}

}  // namespace deepseek
