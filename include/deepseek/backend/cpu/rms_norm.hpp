// SPDX-License-Identifier: Apache-2.0
// rms_norm on cpu, contiguous rows, computed in float (float, bf16, f16 in any mixture) or double;
// see ops/rms_norm.hpp. float beside double and other strides take the reference. A row is read
// twice, the second time from the first cache; large results are streamed (streaming.hpp).
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/streaming.hpp"
#include "deepseek/backend/reference/rms_norm.hpp"

#include <utility>

namespace deepseek {
namespace kernels {

// Of the row at x, whose sum of squares is known.
template <class T, class X>
T inverse_rms(T squares, const X* x, index_t n, T eps) {
  if (sum_holds(squares)) return T(1) / std::sqrt(squares / static_cast<T>(n) + eps);
  return rms_norm_scale<T>(serial_team{}, view<const X, host, dyn>(x, {n}),
                           static_cast<double>(eps));
}

template <class T, class X, class W, class Y>
void rms_norm_row(const X* x, const W* w, Y* y, index_t n, T eps) {
  using simd::load_wide;
  const auto [squares] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = load_wide(x + i, rest);
        return std::array{v * v};
      });
  const auto r = simd::pack<T>::broadcast(inverse_rms(squares, x, n, eps));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = load_wide(x + i, rest) * r;
        simd::store_narrow(y + i, load_wide(w + i, rest) * normed, rest);
      });
}

// A row is written past the caches while the next one is summed and the one after it comes near.
template <class T, class X, class W, class Y>
void rms_norm_streamed(const X& x, const W* w, const Y& y, std::pair<index_t, index_t> rows,
                       T eps) {
  using simd::load_wide;
  const index_t n = x.extent(1);
  const auto squares_of = [](auto v) { return std::array{v * v}; };
  auto squares = simd::row_sums<T, 1>(
      n, [&, here = &x(rows.first, 0) ](index_t i, index_t rest)
             __attribute__((always_inline)) { return squares_of(load_wide(here + i, rest)); });
  for (index_t row = rows.first; row < rows.second; ++row) {
    const auto* const here = &x(row, 0);
    const auto r = simd::pack<T>::broadcast(inverse_rms(squares[0], here, n, eps));
    const auto *const next = &x(std::min(row + 1, rows.second - 1), 0),
                      *const soon = &x(std::min(row + 2, x.extent(0) - 1), 0);
    auto* const to = &y(row, 0);
    squares = simd::row_sums<T, 1>(
        n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
          simd::expect_soon(soon + i);
          const auto normed = load_wide(here + i, rest) * r;
          const auto v = load_wide(next + i, rest);
          simd::store_narrow<true>(to + i, load_wide(w + i, rest) * normed, rest);
          return squares_of(v);
        });
  }
  simd::end_of_streams();
}

// dx of one row and its share of dw, which is added to `partial`.
template <class T, class X, class W, class DY, class DX>
struct rms_norm_backward_pointers {
  const X* x;
  const W* w;
  const DY* dy;
  DX* dx;
  T* partial;
};
template <class T, class X, class W, class DY, class DX>
rms_norm_backward_pointers(const X*, const W*, const DY*, DX*, T*)
    -> rms_norm_backward_pointers<T, X, W, DY, DX>;
template <class T, class Pointers>
void rms_norm_backward_row(const Pointers& p, index_t n, T eps) {
  using simd::load_wide, simd::pack;
  const auto [squares, dot] = simd::row_sums<T, 2>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = load_wide(p.x + i, rest);
        const auto g = load_wide(p.dy + i, rest) * load_wide(p.w + i, rest);
        return std::array{v * v, g * v};
      });
  const T scale = inverse_rms(squares, p.x, n, eps);
  const T along = sum_holds(squares) ? dot * scale : row_sum(serial_team{}, n, [&](index_t i) {
    return static_cast<T>(p.dy[i]) * static_cast<T>(p.w[i]) * (static_cast<T>(p.x[i]) * scale);
  });
  const auto r = pack<T>::broadcast(scale);
  const auto mean = pack<T>::broadcast(along / static_cast<T>(n));
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto normed = load_wide(p.x + i, rest) * r;
        const auto dy = load_wide(p.dy + i, rest);
        const auto g = dy * load_wide(p.w + i, rest);
        fma(dy, normed, pack<T>::load_up_to(p.partial + i, rest)).store_up_to(p.partial + i, rest);
        simd::store_narrow(p.dx + i, r * fma(-normed, mean, g), rest);
      });
}

}  // namespace kernels

template <class X, class W, class Y>
requires Widenable<X, W, Y>
void rms_norm_impl(const cpu& b, const X& x, const W& w, const Y& y, double eps) {
  using T = lanes_of<Y>;
  if (!unit_rows(x, w, y)) {
    return rms_norm_impl(static_cast<const reference&>(b), x, w, y, eps);
  }
  const index_t n = x.extent(1);
  const bool streamed = worth_streaming(y);
  const index_t rows = streamed ? streamed_rows_per_task(n) : rows_per_task(n);
  parallel_rows(b, x.extent(0), rows, [&](index_t first, index_t last) {
    if (streamed) {
      return kernels::rms_norm_streamed(x, w.data(), y, {first, last}, static_cast<T>(eps));
    }
    for (index_t i = first; i < last; ++i) {
      kernels::rms_norm_row(&x(i, 0), w.data(), &y(i, 0), n, static_cast<T>(eps));
    }
  });
}

template <class X, class W, class DY, class DX, class DW>
requires Widenable<X, W, DY, DX, DW>
void rms_norm_backward_impl(const cpu& b, const rms_norm_inputs<X, W>& in, const DY& dy,
                            const rms_norm_gradients<DX, DW>& out, double eps) {
  using T = lanes_of<DX>;
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
      const kernels::rms_norm_backward_pointers row{&in.x(i, 0), in.w.data(), &dy(i, 0),
                                                    &out.dx(i, 0), sums};
      kernels::rms_norm_backward_row(row, n, static_cast<T>(eps));
    }
  });
  add_partials(b, partial, out.dw);
}

}  // namespace deepseek
