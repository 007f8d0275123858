// SPDX-License-Identifier: Apache-2.0
// rms_norm on the device: a row kept in registers (held_rows.hpp); longer rows and double by the
// row bodies of backend/rows over a warp or a block; dw in two passes of fixed order (slabs of
// rows, then the slabs). See ops/rms_norm.hpp.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/rows/rms_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

namespace deepseek {

namespace cuda_rms_norm {

template <class X, class W, class Y>
struct forward {
  X x;
  W w;
  Y y;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    rms_norm_row(team, slice(x, row), w, slice(y, row), eps);
  }
};

template <class X, class R>
struct scales {
  X x;
  R r;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const auto scale = rms_norm_scale<typename R::value_type>(team, slice(x, row), eps);
    if (team.rank() == 0) r(row) = scale;
  }
};

template <class X, class R>
struct held_scales {
  static constexpr int count = run_length<typename X::value_type>();
  X x;
  R r;
  double eps;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename X::value_type;
    using A = typename R::value_type;
    held_row<T, count> held;
    held.load(team, slice(x, row), span);
    const auto sum_of = [&](const auto& f) {
      return held.sum(team, span, [&](T v) { return f(static_cast<A>(v)); });
    };
    const A scale = inverse_rms_by(sum_of, static_cast<A>(span.n), static_cast<A>(eps));
    if (team.rank() == 0) r(row) = scale;
  }
};

// dy * xhat: what dw is the column sums of.
template <class X, class DY, class R>
struct weight_term {
  using sum = typename R::value_type;
  using T = typename X::value_type;
  using D = typename DY::value_type;
  static constexpr int count = run_length<T, D>();
  X x;
  DY dy;
  R r;
  DEEPSEEK_HOST_DEVICE sum operator()(index_t row, index_t j) const {
    return term(dy(row, j), x(row, j), r(row));
  }
  bool runs() const { return moves_whole(x) && moves_whole(dy); }
  DEEPSEEK_HOST_DEVICE void add_run(index_t row, index_t first, sum* sums) const {
    alignas(vector_bytes) T xs[count];
    alignas(vector_bytes) D ds[count];
    load_run<count>(&x(row, first), xs);
    load_run<count>(&dy(row, first), ds);
    const sum scale = r(row);
    for (int k = 0; k < count; ++k) sums[k] += term(ds[k], xs[k], scale);
  }
  DEEPSEEK_HOST_DEVICE static sum term(D d, T v, sum scale) {
    return static_cast<sum>(d) * (static_cast<sum>(v) * scale);
  }
};

template <class In, class DY, class DX, class R>
struct backward {
  In in;
  DY dy;
  DX dx;
  R r;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const rms_norm_inputs<decltype(slice(in.x, row)), decltype(in.w)> at{slice(in.x, row), in.w};
    rms_norm_backward_row(team, at, slice(dy, row), slice(dx, row), r(row));
  }
};

template <class X, class W, class Y>
struct held_forward {
  static constexpr int count =
      run_length<typename X::value_type, typename W::value_type, typename Y::value_type>();
  X x;
  W w;
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
    const A scale = inverse_rms_by(sum_of, static_cast<A>(span.n), static_cast<A>(eps));
    held.each_run(team, span, [&](int first, const T* run) {
      alignas(vector_bytes) typename W::value_type weight[count];
      alignas(vector_bytes) out result[count];
      load_part<count>(w, first, span, weight);
      for (int k = 0; k < count; ++k) {
        result[k] = static_cast<out>(static_cast<A>(weight[k]) * (static_cast<A>(run[k]) * scale));
      }
      store_part<count>(to, first, span, result);
    });
  }
};

// Both rows are held, and each weight is read twice (the second time from the cache).
template <class In, class DY, class DX, class R>
struct held_backward {
  using X = std::remove_cvref_t<decltype(std::declval<In>().x)>;
  using W = std::remove_cvref_t<decltype(std::declval<In>().w)>;
  static constexpr int count = run_length<typename X::value_type, typename W::value_type,
                                          typename DY::value_type, typename DX::value_type>();
  In in;
  DY dy;
  DX dx;
  R r;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename X::value_type;
    using D = typename DY::value_type;
    using out = typename DX::value_type;
    using A = typename R::value_type;
    held_row<T, count> held_x;
    held_row<D, count> held_dy;
    held_x.load(team, slice(in.x, row), span);
    held_dy.load(team, slice(dy, row), span);
    const auto to = slice(dx, row);
    const A scale = r(row);
    A partial = 0;
    each_of_both(team, span, held_x, held_dy, [&](int first, const T* xs, const D* ds) {
      alignas(vector_bytes) typename W::value_type weight[count];
      load_part<count>(in.w, first, span, weight);
      for (int k = 0; k < count; ++k) {
        if (first + k < span.n) {
          partial +=
              static_cast<A>(ds[k]) * static_cast<A>(weight[k]) * (static_cast<A>(xs[k]) * scale);
        }
      }
    });
    const A mean = team.sum(partial) / static_cast<A>(span.n);
    each_of_both(team, span, held_x, held_dy, [&](int first, const T* xs, const D* ds) {
      alignas(vector_bytes) typename W::value_type weight[count];
      alignas(vector_bytes) out result[count];
      load_part<count>(in.w, first, span, weight);
      for (int k = 0; k < count; ++k) {
        const A weighted = static_cast<A>(ds[k]) * static_cast<A>(weight[k]);
        result[k] = static_cast<out>(scale * (weighted - static_cast<A>(xs[k]) * scale * mean));
      }
      store_part<count>(to, first, span, result);
    });
  }
};

// r(row) of each row of x.
template <class B, class X, class R>
void find_scales(const B& b, const X& x, const R& r, double eps) {
  if constexpr (may_be_held<typename X::value_type>) {
    const row_shape shape{x.extent(0), x.extent(1), moves_whole(x)};
    if (run_each_held_row(b, shape, held_scales<X, R>{x, r, eps})) return;
  }
  run_each_row(b, x.extent(0), x.extent(1), scales<X, R>{x, r, eps});
}

}  // namespace cuda_rms_norm

template <DeviceBackend B, class X, class W, class Y>
void rms_norm_impl(const B& b, const X& x, const W& w, const Y& y, double eps) {
  using namespace cuda_rms_norm;
  if constexpr (may_be_held<typename X::value_type, typename W::value_type,
                            typename Y::value_type>) {
    const row_shape shape{x.extent(0), x.extent(1),
                          moves_whole(x) && moves_whole(w) && moves_whole(y)};
    if (run_each_held_row(b, shape, held_forward<X, W, Y>{x, w, y, eps})) return;
  }
  run_each_row(b, x.extent(0), x.extent(1), forward<X, W, Y>{x, w, y, eps});
}

template <DeviceBackend B, class In, class DY, class Out>
void rms_norm_backward_impl(const B& b, const In& in, const DY& dy, const Out& out, double eps) {
  using X = std::remove_cvref_t<decltype(in.x)>;
  using DX = std::remove_cvref_t<decltype(out.dx)>;
  using sum = std::common_type_t<accumulate_t<typename DX::value_type>,
                                 accumulate_t<typename decltype(out.dw)::value_type>>;
  using R = view<sum, typename B::space, dyn>;
  const index_t n = in.x.extent(0), dim = in.x.extent(1);
  const scope freed(b.workspace());
  const R r = b.workspace().template make<sum, dyn>(n);
  cuda_rms_norm::find_scales(b, in.x, r, eps);
  // Before dx, which may lie over dy.
  add_term_columns(b, n, cuda_rms_norm::weight_term<X, DY, R>{in.x, dy, r}, out.dw);
  if constexpr (may_be_held<typename X::value_type, typename decltype(in.w)::value_type,
                            typename DY::value_type, typename DX::value_type>) {
    const row_shape shape{
        n, dim, moves_whole(in.x) && moves_whole(in.w) && moves_whole(dy) && moves_whole(out.dx)};
    const cuda_rms_norm::held_backward<In, DY, DX, R> held{in, dy, out.dx, r};
    if (run_each_held_row(b, shape, held)) return;
  }
  run_each_row(b, n, dim, cuda_rms_norm::backward<In, DY, DX, R>{in, dy, out.dx, r});
}

}  // namespace deepseek
