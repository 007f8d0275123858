// SPDX-License-Identifier: Apache-2.0
// softmax on cpu, contiguous rows, computed in float (float, bf16, f16 in any mixture) or double;
// see ops/softmax.hpp. float beside double and other strides take the reference. Three passes over
// a row: maximum, exponentials, scaling; over several rows they run side by side (softmax_rows).
#pragma once

#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/streaming.hpp"
#include "deepseek/backend/reference/softmax.hpp"

#include <utility>

namespace deepseek {
namespace kernels {

// NaN never compares larger: the sum of the exponentials carries it.
template <class X>
accumulate_t<X> row_max(const X* x, index_t n) {
  using T = accumulate_t<X>;
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  auto largest = pack<T>::broadcast(lowest);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        largest = max(simd::first_lanes(simd::load_wide(x + i, rest), rest, lowest), largest);
      });
  return reduce_max(largest);
}

struct row_of_exponentials {};
// n wide numbers: y itself where its elements are as wide as the lanes.
template <class Y>
accumulate_t<Y>* wide_row(Y* y, index_t n) {
  if constexpr (std::is_same_v<Y, accumulate_t<Y>>) {
    return y;
  } else {
    return scratch<row_of_exponentials, accumulate_t<Y>>(static_cast<std::size_t>(n));
  }
}

template <class X, class Y>
void softmax_row(const X* x, Y* y, index_t n) {
  using T = accumulate_t<Y>;
  using simd::pack;
  const T found = row_max(x, n);
  const T largest = found == -std::numeric_limits<T>::infinity() ? T(0) : found;
  const auto shift = pack<T>::broadcast(largest);
  T* const kept = wide_row(y, n);
  const auto [total] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto e = simd::exp_of_nonpositive(simd::load_wide(x + i, rest) - shift);
        e.store_up_to(kept + i, rest);
        return std::array{simd::first_lanes(e, rest, T(0))};
      });
  const auto scale = pack<T>::broadcast(total == T(0) ? T(0) : T(1) / total);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        simd::store_narrow(y + i, pack<T>::load_up_to(kept + i, rest) * scale, rest);
      });
}

// A row whose exponentials are there: y = kept * scale is left to do.
template <class T, class Y>
struct unscaled_row {
  const T* kept;
  Y* y;
  T scale;
};

enum class row_before { none, stored, streamed };

// One pass over three rows: the exponentials of x - shift to `kept`, the largest of `next`, the row
// before scaled. Returns the sum of the exponentials and that maximum.
template <row_before Before, class T, class X, class Y>
std::pair<T, T> softmax_pass(const X* x, T shift, T* kept, const X* next, const X* soon,
                             const unscaled_row<T, Y>& before, index_t n) {
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const auto top = pack<T>::broadcast(shift), scale = pack<T>::broadcast(before.scale);
  auto largest = pack<T>::broadcast(lowest);
  const auto [total] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto e = simd::exp_of_nonpositive(simd::load_wide(x + i, rest) - top);
        e.store_up_to(kept + i, rest);
        simd::expect_soon(soon + i);  // the first cache has no room for it
        largest = max(simd::first_lanes(simd::load_wide(next + i, rest), rest, lowest), largest);
        if constexpr (Before != row_before::none) {
          const auto y = pack<T>::load_up_to(before.kept + i, rest) * scale;
          simd::store_narrow<Before == row_before::streamed>(before.y + i, y, rest);
        }
        return std::array{simd::first_lanes(e, rest, T(0))};
      });
  return {total, reduce_max(largest)};
}

struct rows_of_exponentials {};

// A row's exponentials are made while the next row is read and the row before is written: memory
// and arithmetic overlap. The same bits as softmax_row, which is faster for a single row and where
// y fits no cache and is not streamed.
template <bool Streamed, class X, class Y>
void softmax_rows(const X& x, const Y& y, index_t first, index_t last) {
  using T = lanes_of<Y>;
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  constexpr row_before written = Streamed ? row_before::streamed : row_before::stored;
  const index_t n = x.extent(1), room = (n + 15) / 16 * 16;
  T* const kept = scratch<rows_of_exponentials, T>(static_cast<std::size_t>(2 * room));
  T largest = row_max(&x(first, 0), n);
  unscaled_row<T, typename Y::value_type> before{};
  for (index_t i = first; i < last; ++i) {
    const auto* const next = &x(std::min(i + 1, last - 1), 0);
    const auto* const soon = &x(std::min(i + 2, x.extent(0) - 1), 0);
    T* const here = kept + (i - first) % 2 * room;
    const T shift = largest == lowest ? T(0) : largest;
    const auto [total, coming] =
        i == first ? softmax_pass<row_before::none>(&x(i, 0), shift, here, next, soon, before, n)
                   : softmax_pass<written>(&x(i, 0), shift, here, next, soon, before, n);
    largest = coming;
    before = {here, &y(i, 0), total == T(0) ? T(0) : T(1) / total};
  }
  const auto scale = pack<T>::broadcast(before.scale);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = pack<T>::load_up_to(before.kept + i, rest) * scale;
        simd::store_narrow<Streamed>(before.y + i, v, rest);
      });
}

template <class Y, class DY, class DX>
void softmax_backward_row(const Y* y, const DY* dy, DX* dx, index_t n) {
  using T = accumulate_t<DX>;
  using simd::load_wide;
  const auto [dot] = simd::row_sums<T, 1>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        return std::array{load_wide(y + i, rest) * load_wide(dy + i, rest)};
      });
  const auto level = simd::pack<T>::broadcast(dot);
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto away = load_wide(dy + i, rest) - level;
        simd::store_narrow(dx + i, load_wide(y + i, rest) * away, rest);
      });
}

}  // namespace kernels

template <class X, class Y>
requires Widenable<X, Y>
void softmax_impl(const cpu& b, const X& x, const Y& y) {
  if (!unit_rows(x, y)) return softmax_impl(static_cast<const reference&>(b), x, y);
  const index_t n = x.extent(1);
  const bool streamed = worth_streaming(y),
             cached = rows_per_task(n) > 1 && bytes_of_all(y) <= cached_up_to;
  const index_t rows = streamed ? streamed_rows_per_task(n) : rows_per_task(n);
  parallel_rows(b, x.extent(0), rows, [&](index_t first, index_t last) {
    if (streamed) {
      kernels::softmax_rows<true>(x, y, first, last);
      simd::end_of_streams();
    } else if (cached) {
      kernels::softmax_rows<false>(x, y, first, last);
    } else {
      for (index_t i = first; i < last; ++i) kernels::softmax_row(&x(i, 0), &y(i, 0), n);
    }
  });
}

template <class Y, class DY, class DX>
requires Widenable<Y, DY, DX>
void softmax_backward_impl(const cpu& b, const Y& y, const DY& dy, const DX& dx) {
  if (!unit_rows(y, dy, dx)) {
    return softmax_backward_impl(static_cast<const reference&>(b), y, dy, dx);
  }
  const index_t n = y.extent(1);
  parallel_rows(b, y.extent(0), rows_per_task(n), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      kernels::softmax_backward_row(&y(i, 0), &dy(i, 0), &dx(i, 0), n);
    }
  });
}

}  // namespace deepseek
