// SPDX-License-Identifier: Apache-2.0
// rms_norm on cpu, float or double throughout, contiguous rows; see ops/rms_norm.hpp. Other types
// and strides take the reference. A row is read twice, the second time from the first cache.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/rms_norm.hpp"

namespace deepseek {
namespace kernels {

template <class T>
T inverse_rms(T squares, index_t n, T eps) {
  return T(1) / std::sqrt(squares / static_cast<T>(n) + eps);
}

template <class T>
void rms_norm_row(const T* x, const T* w, T* y, index_t n, T eps) {
  using simd::pack;
  const auto [squares] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = pack<T>::load_up_to(x + i, rest);
        return std::array{v * v};
      });
  const auto r = pack<T>::broadcast(inverse_rms(squares, n, eps));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = pack<T>::load_up_to(x + i, rest) * r;
        (pack<T>::load_up_to(w + i, rest) * normed).store_up_to(y + i, rest);
      });
}

// dx of one row and its share of dw, which is added to `partial`.
template <class T>
struct rms_norm_backward_pointers {
  const T *x, *w, *dy;
  T *dx, *partial;
};
template <class T>
void rms_norm_backward_row(const rms_norm_backward_pointers<T>& p, index_t n, T eps) {
  using simd::pack;
  const auto [squares, dot] = simd::row_sums<T, 2>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = pack<T>::load_up_to(p.x + i, rest);
        const auto g = pack<T>::load_up_to(p.dy + i, rest) * pack<T>::load_up_to(p.w + i, rest);
        return std::array{v * v, g * v};
      });
  const T scale = inverse_rms(squares, n, eps);
  const auto r = pack<T>::broadcast(scale);
  const auto mean = pack<T>::broadcast(dot * scale / static_cast<T>(n));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = pack<T>::load_up_to(p.x + i, rest) * r;
        const auto dy = pack<T>::load_up_to(p.dy + i, rest);
        const auto g = dy * pack<T>::load_up_to(p.w + i, rest);
        fma(dy, normed, pack<T>::load_up_to(p.partial + i, rest)).store_up_to(p.partial + i, rest);
        (r * fma(-normed, mean, g)).store_up_to(p.dx + i, rest);
      });
}

}  // namespace kernels

template <class X, class W, class Y>
requires Packable<X, W, Y>
void rms_norm_impl(const cpu& b, const X& x, const W& w, const Y& y, double eps) {
  using T = typename Y::value_type;
  if (!unit_rows(x, w, y)) {
    return rms_norm_impl(static_cast<const reference&>(b), x, w, y, eps);
  }
  const index_t n = x.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      kernels::rms_norm_row(&x(i, 0), w.data(), &y(i, 0), n, static_cast<T>(eps));
    }
  });
}

template <class X, class W, class DY, class DX, class DW>
requires Packable<X, W, DY, DX, DW>
void rms_norm_backward_impl(const cpu& b, const rms_norm_inputs<X, W>& in, const DY& dy,
                            const rms_norm_gradients<DX, DW>& out, double eps) {
  using T = typename DX::value_type;
  if (!unit_rows(in.x, in.w, dy, out.dx, out.dw)) {
    return rms_norm_backward_impl(static_cast<const reference&>(b), in, dy, out, eps);
  }
  const index_t rows = in.x.extent(0), n = in.x.extent(1);
  const scope scratch(b.workspace());
  const auto partial =
      b.workspace().template make<T, dyn, dyn>(chunks_of(rows, rows_per_partial), n);
  parallel_rows(b, rows, rows_per_partial, [&](index_t first, index_t last) {
    T* sums = &partial(first / rows_per_partial, 0);
    std::fill_n(sums, n, T(0));
    for (index_t i = first; i < last; ++i) {
      kernels::rms_norm_backward_row<T>({&in.x(i, 0), in.w.data(), &dy(i, 0), &out.dx(i, 0), sums},
                                        n, static_cast<T>(eps));
    }
  });
  add_partials(b, partial, out.dw);
}

}  // namespace deepseek
