// SPDX-License-Identifier: Apache-2.0
// combine on the cpu: rows on all threads; fused multiply-adds in registers, over k in order.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/combine.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

// Bytes. The rows of a token stand anywhere, too many for the processor to run ahead in all of
// them: 6 rows of 2048 floats, a Zen 5 core: 12 .. 15 -> 14 .. 24 GB/s.
inline constexpr index_t combine_ahead = 1024;

template <class Ys, class By, class Y>
void combine_impl(const cpu& b, const Ys& ys, const By& by, const Y& y) requires Widenable<Y, Ys> {
  using T = lanes_of<Y>;
  using pack = simd::pack<T>;
  if (!unit_rows(ys, y)) return combine_impl(static_cast<const reference&>(b), ys, by, y);
  require_indices(by.slot, ys.extent(0), "combine: slot", absent_index);
  const index_t width = y.extent(1), choices = by.slot.extent(1);
  const bool adds = by.how == update::add;
  parallel_rows(b, y.extent(0), rows_per_task(width * choices), [&](index_t first, index_t end) {
    for (index_t t = first; t < end; ++t) {
      auto* const to = row_at(y, t).data();
      for (index_t d = 0; d < width; d += pack::width) {
        pack sum = pack::zero();
        for (index_t k = 0; k < choices; ++k) {
          if (by.slot(t, k) < 0) continue;
          const auto weight = pack::broadcast(convert_to<T>(by.weights(t, k)));
          const auto* at = row_at(ys, by.slot(t, k)).data() + d;
          __builtin_prefetch(reinterpret_cast<const char*>(at) + combine_ahead);
          sum = fma(weight, simd::load_wide(at, width - d), sum);
        }
        if (adds) sum = sum + simd::load_wide(to + d, width - d);
        simd::store_narrow(to + d, sum, width - d);
      }
    }
  });
}

// <a, b> with two chains of registers from the row's start.
template <class A, class B>
accumulate_t<A> dot_run(const A* a, const B* b, index_t n) {
  using pack = simd::pack<accumulate_t<A>>;
  const auto both = [&](index_t d, index_t rest, pack sum) __attribute__((always_inline)) {
    return fma(simd::load_wide(a + d, rest), simd::load_wide(b + d, rest), sum);
  };
  pack even = pack::zero(), odd = pack::zero();
  index_t d = 0;
  for (; d + 2 * pack::width <= n; d += 2 * pack::width) {
    even = both(d, pack::width, even);
    odd = both(d + pack::width, pack::width, odd);
  }
  for (; d < n; d += pack::width) even = both(d, n - d, even);
  return reduce_sum(even + odd);
}

template <class T, class From, class To>
void scaled_run(T weight, const From* from, To* to, index_t n) {
  const auto by = simd::pack<T>::broadcast(weight);
  simd::along_row<T>(
      n, [&](index_t d, index_t rest) __attribute__((always_inline)) {
        simd::store_narrow(to + d, by * simd::load_wide(from + d, rest), rest);
      });
}

template <class In, class DY, class DYs, class DW>
void combine_backward_impl(
    const cpu& b, const In& in, const DY& dy,
    const combine_gradients<DYs, DW>& out) requires Widenable<DYs, DY, decltype(in.ys)> {
  using T = lanes_of<DYs>;
  if (!unit_rows(in.ys, dy, out.dys)) {
    return combine_backward_impl(static_cast<const reference&>(b), in, dy, out);
  }
  require_indices(in.slot, in.ys.extent(0), "combine_backward: slot", absent_index);
  const index_t width = dy.extent(1), choices = in.slot.extent(1);
  parallel_rows(b, dy.extent(0), rows_per_task(width * choices), [&](index_t first, index_t end) {
    for (index_t t = first; t < end; ++t) {
      const auto* gradient = row_at(dy, t).data();
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
