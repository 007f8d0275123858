// SPDX-License-Identifier: Apache-2.0
// layer_norm on cpu, contiguous rows, computed in float (float, bf16, f16 in any mixture) or
// double; see ops/layer_norm.hpp. float beside double and other strides take the reference. Mean
// and variance in two passes over the cached row.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/layer_norm.hpp"

namespace deepseek {
namespace kernels {

template <class T, class X>
row_moments<T> moments(const X* x, index_t n, T eps) {
  using simd::load_wide;
  const auto [sum] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest)
             __attribute__((always_inline)) { return std::array{load_wide(x + i, rest)}; });
  const T mean = sum / static_cast<T>(n);
  const auto m = simd::pack<T>::broadcast(mean);
  const auto [squares] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto away = simd::first_lanes(load_wide(x + i, rest) - m, rest, T(0));
        return std::array{away * away};
      });
  if (sum_holds(squares)) return {mean, T(1) / std::sqrt(squares / static_cast<T>(n) + eps)};
  return layer_norm_moments<T>(serial_team{}, view<const X, host, dyn>(x, {n}),
                               static_cast<double>(eps));
}

template <class X, class W, class Bias, class Y>
struct layer_norm_pointers {
  const X* x;
  const W* w;
  const Bias* bias;
  Y* y;
};
template <class X, class W, class Bias, class Y>
layer_norm_pointers(const X*, const W*, const Bias*, Y*) -> layer_norm_pointers<X, W, Bias, Y>;
template <class T, class Pointers>
void layer_norm_row(const Pointers& p, index_t n, T eps) {
  using simd::load_wide, simd::pack;
  const row_moments<T> of = moments(p.x, n, eps);
  const auto mean = pack<T>::broadcast(of.mean), scale = pack<T>::broadcast(of.scale);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = (load_wide(p.x + i, rest) - mean) * scale;
        const auto w = load_wide(p.w + i, rest);
        simd::store_narrow(p.y + i, fma(w, normed, load_wide(p.bias + i, rest)), rest);
      });
}

// dx of one row and its shares of dw and dbias, which are added to the partial sums.
template <class T, class X, class W, class DY, class DX>
struct layer_norm_backward_pointers {
  const X* x;
  const W* w;
  const DY* dy;
  DX* dx;
  T *dw, *dbias;
};
template <class T, class X, class W, class DY, class DX>
layer_norm_backward_pointers(const X*, const W*, const DY*, DX*, T*, T*)
    -> layer_norm_backward_pointers<T, X, W, DY, DX>;
template <class T, class Pointers>
void layer_norm_backward_row(const Pointers& p, index_t n, T eps) {
  using simd::load_wide, simd::pack;
  const row_moments<T> of = moments(p.x, n, eps);
  const auto mean = pack<T>::broadcast(of.mean), scale = pack<T>::broadcast(of.scale);
  const auto [total, dot] = simd::row_sums<T, 2>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto g = load_wide(p.dy + i, rest) * load_wide(p.w + i, rest);
        return std::array{g, g * ((load_wide(p.x + i, rest) - mean) * scale)};
      });
  const auto level = pack<T>::broadcast(total / static_cast<T>(n));
  const auto slope = pack<T>::broadcast(dot / static_cast<T>(n));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = (load_wide(p.x + i, rest) - mean) * scale;
        const auto dy = load_wide(p.dy + i, rest);
        const auto g = dy * load_wide(p.w + i, rest);
        fma(dy, normed, pack<T>::load_up_to(p.dw + i, rest)).store_up_to(p.dw + i, rest);
        (dy + pack<T>::load_up_to(p.dbias + i, rest)).store_up_to(p.dbias + i, rest);
        simd::store_narrow(p.dx + i, scale * fma(-normed, slope, g - level), rest);
      });
}

}  // namespace kernels

template <class X, class W, class Bias, class Y>
requires Widenable<X, W, Bias, Y>
void layer_norm_impl(const cpu& b, const X& x, const layer_norm_affine<W, Bias>& affine, const Y& y,
                     double eps) {
  using T = lanes_of<Y>;
  if (!unit_rows(x, affine.w, affine.bias, y)) {
    return layer_norm_impl(static_cast<const reference&>(b), x, affine, y, eps);
  }
  const index_t n = x.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      const kernels::layer_norm_pointers row{&x(i, 0), affine.w.data(), affine.bias.data(),
                                             &y(i, 0)};
      kernels::layer_norm_row(row, n, static_cast<T>(eps));
    }
  });
}

template <class X, class W, class DY, class DX, class DW, class DBias>
requires Widenable<X, W, DY, DX, DW, DBias>
void layer_norm_backward_impl(const cpu& b, const layer_norm_inputs<X, W>& in, const DY& dy,
                              const layer_norm_gradients<DX, DW, DBias>& out, double eps) {
  using T = lanes_of<DX>;
  if (!unit_rows(in.x, in.w, dy, out.dx, out.dw, out.dbias)) {
    return layer_norm_backward_impl(static_cast<const reference&>(b), in, dy, out, eps);
  }
  const index_t rows = in.x.extent(0), n = in.x.extent(1);
  const index_t chunks = chunks_of(rows, rows_per_partial);
  const scope scratch(b.workspace());
  const auto dw = b.workspace().template make<T, dyn, dyn>(chunks, n);
  const auto dbias = b.workspace().template make<T, dyn, dyn>(chunks, n);
  parallel_rows(b, rows, rows_per_partial, [&](index_t first, index_t last) {
    const index_t chunk = first / rows_per_partial;
    std::fill_n(&dw(chunk, 0), n, T(0));
    std::fill_n(&dbias(chunk, 0), n, T(0));
    for (index_t i = first; i < last; ++i) {
      const kernels::layer_norm_backward_pointers row{
          &in.x(i, 0), in.w.data(), &dy(i, 0), &out.dx(i, 0), &dw(chunk, 0), &dbias(chunk, 0)};
      kernels::layer_norm_backward_row(row, n, static_cast<T>(eps));
    }
  });
  add_partials(b, dw, out.dw);
  add_partials(b, dbias, out.dbias);
}

}  // namespace deepseek
