// SPDX-License-Identifier: Apache-2.0
// layer_norm on cpu, float or double throughout, contiguous rows; see ops/layer_norm.hpp. Other
// types and strides take the reference. Mean and variance in two passes over the cached row.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/layer_norm.hpp"

namespace deepseek {
namespace kernels {

template <class T>
row_moments<T> moments(const T* x, index_t n, T eps) {
  using simd::pack;
  const auto [sum] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        return std::array{pack<T>::load_up_to(x + i, rest)};
      });
  const T mean = sum / static_cast<T>(n);
  const auto m = pack<T>::broadcast(mean);
  const auto [squares] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto away = simd::first_lanes(pack<T>::load_up_to(x + i, rest) - m, rest, T(0));
        return std::array{away * away};
      });
  return {mean, T(1) / std::sqrt(squares / static_cast<T>(n) + eps)};
}

template <class T>
struct layer_norm_pointers {
  const T *x, *w, *bias;
  T* y;
};
template <class T>
void layer_norm_row(const layer_norm_pointers<T>& p, index_t n, T eps) {
  using simd::pack;
  const row_moments<T> of = moments(p.x, n, eps);
  const auto mean = pack<T>::broadcast(of.mean), scale = pack<T>::broadcast(of.scale);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = (pack<T>::load_up_to(p.x + i, rest) - mean) * scale;
        const auto w = pack<T>::load_up_to(p.w + i, rest);
        fma(w, normed, pack<T>::load_up_to(p.bias + i, rest)).store_up_to(p.y + i, rest);
      });
}

// dx of one row and its shares of dw and dbias, which are added to the partial sums.
template <class T>
struct layer_norm_backward_pointers {
  const T *x, *w, *dy;
  T *dx, *dw, *dbias;
};
template <class T>
void layer_norm_backward_row(const layer_norm_backward_pointers<T>& p, index_t n, T eps) {
  using simd::pack;
  const row_moments<T> of = moments(p.x, n, eps);
  const auto mean = pack<T>::broadcast(of.mean), scale = pack<T>::broadcast(of.scale);
  const auto [total, dot] = simd::row_sums<T, 2>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto g = pack<T>::load_up_to(p.dy + i, rest) * pack<T>::load_up_to(p.w + i, rest);
        return std::array{g, g * ((pack<T>::load_up_to(p.x + i, rest) - mean) * scale)};
      });
  const auto level = pack<T>::broadcast(total / static_cast<T>(n));
  const auto slope = pack<T>::broadcast(dot / static_cast<T>(n));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = (pack<T>::load_up_to(p.x + i, rest) - mean) * scale;
        const auto dy = pack<T>::load_up_to(p.dy + i, rest);
        const auto g = dy * pack<T>::load_up_to(p.w + i, rest);
        fma(dy, normed, pack<T>::load_up_to(p.dw + i, rest)).store_up_to(p.dw + i, rest);
        (dy + pack<T>::load_up_to(p.dbias + i, rest)).store_up_to(p.dbias + i, rest);
        (scale * fma(-normed, slope, g - level)).store_up_to(p.dx + i, rest);
      });
}

}  // namespace kernels

template <class X, class W, class Bias, class Y>
requires Packable<X, W, Bias, Y>
void layer_norm_impl(const cpu& b, const X& x, const layer_norm_affine<W, Bias>& affine, const Y& y,
                     double eps) {
  using T = typename Y::value_type;
  if (!unit_rows(x, affine.w, affine.bias, y)) {
    return layer_norm_impl(static_cast<const reference&>(b), x, affine, y, eps);
  }
  const index_t n = x.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      kernels::layer_norm_row<T>({&x(i, 0), affine.w.data(), affine.bias.data(), &y(i, 0)}, n,
                                 static_cast<T>(eps));
    }
  });
}

template <class X, class W, class DY, class DX, class DW, class DBias>
requires Packable<X, W, DY, DX, DW, DBias>
void layer_norm_backward_impl(const cpu& b, const layer_norm_inputs<X, W>& in, const DY& dy,
                              const layer_norm_gradients<DX, DW, DBias>& out, double eps) {
  using T = typename DX::value_type;
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
      kernels::layer_norm_backward_row<T>(
          {&in.x(i, 0), in.w.data(), &dy(i, 0), &out.dx(i, 0), &dw(chunk, 0), &dbias(chunk, 0)}, n,
          static_cast<T>(eps));
    }
  });
  add_partials(b, dw, out.dw);
  add_partials(b, dbias, out.dbias);
}

}  // namespace deepseek
