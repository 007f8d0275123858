// SPDX-License-Identifier: Apache-2.0
// combine on the cpu: rows on all threads; fused multiply-adds in registers, over k in order.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/combine.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class Ys, class By, class Y>
void combine_impl(const cpu& b, const Ys& ys, const By& by, const Y& y) requires Packable<Y, Ys> {
  using T = typename Y::value_type;
  using pack = simd::pack<T>;
  if (!unit_rows(ys, y)) return combine_impl(static_cast<const reference&>(b), ys, by, y);
  require_indices(by.slot, ys.extent(0), "combine: slot", absent_index);
  const index_t width = y.extent(1), choices = by.slot.extent(1);
  parallel_rows(b, y.extent(0), rows_per_task(width * choices), [&](index_t first, index_t end) {
    for (index_t t = first; t < end; ++t) {
      T* to = row_at(y, t).data();
      for (index_t d = 0; d < width; d += pack::width) {
        pack sum = pack::zero();
        for (index_t k = 0; k < choices; ++k) {
          if (by.slot(t, k) < 0) continue;
          const auto weight = pack::broadcast(convert_to<T>(by.weights(t, k)));
          const T* row = row_at(ys, by.slot(t, k)).data();
          sum = fma(weight, pack::load_up_to(row + d, width - d), sum);
        }
        sum.store_up_to(to + d, width - d);
      }
    }
  });
}

// <a, b> with two chains of registers from the row's start.
template <class T>
T dot_run(const T* a, const T* b, index_t n) {
  using pack = simd::pack<T>;
  pack even = pack::zero(), odd = pack::zero();
  index_t d = 0;
  for (; d + 2 * pack::width <= n; d += 2 * pack::width) {
    even = fma(pack::load(a + d), pack::load(b + d), even);
    odd = fma(pack::load(a + d + pack::width), pack::load(b + d + pack::width), odd);
  }
  for (; d < n; d += pack::width) {
    even = fma(pack::load_up_to(a + d, n - d), pack::load_up_to(b + d, n - d), even);
  }
  return reduce_sum(even + odd);
}

template <class T>
void scaled_run(T weight, const T* from, T* to, index_t n) {
  using pack = simd::pack<T>;
  for (index_t d = 0; d < n; d += pack::width) {
    (pack::broadcast(weight) * pack::load_up_to(from + d, n - d)).store_up_to(to + d, n - d);
  }
}

template <class In, class DY, class DYs, class DW>
void combine_backward_impl(
    const cpu& b, const In& in, const DY& dy,
    const combine_gradients<DYs, DW>& out) requires Packable<DYs, DY, decltype(in.ys)> {
  using T = typename DYs::value_type;
  if (!unit_rows(in.ys, dy, out.dys)) {
    return combine_backward_impl(static_cast<const reference&>(b), in, dy, out);
  }
  require_indices(in.slot, in.ys.extent(0), "combine_backward: slot", absent_index);
  const index_t width = dy.extent(1), choices = in.slot.extent(1);
  parallel_rows(b, dy.extent(0), rows_per_task(width * choices), [&](index_t first, index_t end) {
    for (index_t t = first; t < end; ++t) {
      const T* gradient = row_at(dy, t).data();
      for (index_t k = 0; k < choices; ++k) {
        const index_t row = in.slot(t, k);
        if (row < 0) {
          if constexpr (!std::is_same_v<DW, none>) {
            out.dweights(t, k) = convert_to<typename DW::value_type>(T(0));
          }
          continue;
        }
        if constexpr (!std::is_same_v<DW, none>) {
          out.dweights(t, k) = convert_to<typename DW::value_type>(
              dot_run(gradient, row_at(in.ys, row).data(), width));
        }
        const T weight = convert_to<T>(in.weights(t, k));
        scaled_run(weight, gradient, row_at(out.dys, row).data(), width);
      }
    }
  });
}

}  // namespace deepseek
