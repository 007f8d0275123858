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
  using T = typename X::value_type;
  using D = typename DY::value_type;
  static constexpr int count = run_length<T, D>();
  X x;
  DY dy;
  M m;
  DEEPSEEK_HOST_DEVICE both_sums<sum> operator()(index_t row, index_t j) const {
    return term(dy(row, j), x(row, j), m(row));
  }
  bool runs() const { return moves_whole(x) && moves_whole(dy); }
  DEEPSEEK_HOST_DEVICE void add_run(index_t row, index_t first, both_sums<sum>* sums) const {
    alignas(vector_bytes) T xs[count];
    alignas(vector_bytes) D ds[count];
    load_run<count>(&x(row, first), xs);
    load_run<count>(&dy(row, first), ds);
    const auto at = m(row);
    for (int k = 0; k < count; ++k) sums[k] += term(ds[k], xs[k], at);
  }
  DEEPSEEK_HOST_DEVICE static both_sums<sum> term(D d, T v, const row_moments<sum>& at) {
    const sum slope = static_cast<sum>(d);
    return {slope * ((static_cast<sum>(v) - at.mean) * at.scale), slope};
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

template <class X, class M>
struct held_moments {
  static constexpr int count = run_length<typename X::value_type>();
  X x;
  M m;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename X::value_type;
    using A = decltype(M::value_type::mean);
    held_row<T, count> held;
    held.load(team, slice(x, row), span);
    const auto sum_of = [&](const auto& f) {
      return held.sum(team, span, [&](T v) { return f(static_cast<A>(v)); });
    };
    const auto found = row_moments_by(sum_of, static_cast<A>(span.n), static_cast<A>(eps));
    if (team.rank() == 0) m(row) = found;
  }
};
// m(row) of each row of x.
template <class B, class X, class M>
void find_moments(const B& b, const X& x, const M& m, double eps) {
  if constexpr (may_be_held<typename X::value_type>) {
    const row_shape shape{x.extent(0), x.extent(1), moves_whole(x)};
    if (run_each_held_row(b, shape, held_moments<X, M>{x, m, eps})) return;
  }
  run_each_row(b, x.extent(0), x.extent(1), moments_of<X, M>{x, m, eps});
}

// Both rows are held, and each weight is read twice (the second time from the cache).
template <class In, class DY, class DX, class M>
struct held_backward {
  using X = std::remove_cvref_t<decltype(std::declval<In>().x)>;
  using W = std::remove_cvref_t<decltype(std::declval<In>().w)>;
  using T = typename X::value_type;
  using D = typename DY::value_type;
  using A = decltype(M::value_type::mean);
  static constexpr int count = run_length<T, typename W::value_type, D, typename DX::value_type>();
  In in;
  DY dy;
  DX dx;
  M m;

  // Of g = dy w and g xhat.
  struct means {
    A plain = 0, mixed = 0;
    DEEPSEEK_HOST_DEVICE means& operator+=(const means& o) {
      plain += o.plain;
      mixed += o.mixed;
      return *this;
    }
    DEEPSEEK_HOST_DEVICE friend means operator+(means a, const means& b) { return a += b; }
  };
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    held_row<T, count> held_x;
    held_row<D, count> held_dy;
    held_x.load(team, slice(in.x, row), span);
    held_dy.load(team, slice(dy, row), span);
    const auto to = slice(dx, row);
    const auto of = m(row);
    const auto hat = [&](T v) { return (static_cast<A>(v) - of.mean) * of.scale; };
    means mean;
    each_of_both(team, span, held_x, held_dy, [&](int first, const T* xs, const D* ds) {
      alignas(vector_bytes) typename W::value_type weight[count];
      load_part<count>(in.w, first, span, weight);
      for (int k = 0; k < count; ++k) {
        if (first + k >= span.n) continue;
        const A g = static_cast<A>(ds[k]) * static_cast<A>(weight[k]);
        mean += means{g, g * hat(xs[k])};
      }
    });
    mean = team.sum(mean);
    mean.plain /= static_cast<A>(span.n);
    mean.mixed /= static_cast<A>(span.n);
    each_of_both(team, span, held_x, held_dy, [&](int first, const T* xs, const D* ds) {
      alignas(vector_bytes) typename W::value_type weight[count];
      alignas(vector_bytes) typename DX::value_type result[count];
      load_part<count>(in.w, first, span, weight);
      for (int k = 0; k < count; ++k) {
        const A g = static_cast<A>(ds[k]) * static_cast<A>(weight[k]);
        result[k] = static_cast<typename DX::value_type>(
            of.scale * (g - mean.plain - hat(xs[k]) * mean.mixed));
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
  cuda_layer_norm::find_moments(b, in.x, m, eps);
  // Before dx, which may lie over dy.
  add_term_columns(b, n, cuda_layer_norm::terms<X, DY, M>{in.x, dy, m},
                   cuda_layer_norm::gradients<DW, DBias>{out.dw, out.dbias});
  if constexpr (may_be_held<sum, typename X::value_type, typename decltype(in.w)::value_type,
                            typename DY::value_type, typename DX::value_type>) {
    const row_shape shape{
        n, dim, moves_whole(in.x) && moves_whole(in.w) && moves_whole(dy) && moves_whole(out.dx)};
    const cuda_layer_norm::held_backward<In, DY, DX, M> held{in, dy, out.dx, m};
    if (run_each_held_row(b, shape, held)) return;
  }
  run_each_row(b, n, dim, cuda_layer_norm::backward<In, DY, DX, M>{in, dy, out.dx, m});
}

}  // namespace deepseek
