// SPDX-License-Identifier: Apache-2.0
// What the row-wise kernels share: which views they take, loops over one row in registers, and how
// rows are cut into tasks. Lanes start at the row start, sums follow one fixed order, and a task is
// a fixed number of rows: bits depend on nothing but the row's length and, for sums over rows, on
// the number of rows.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/backend/cpu/vector_math.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace deepseek {

// All elements are of one type, float or double.
template <class V, class... More>
concept Packable = (std::is_same_v<typename V::value_type, float> ||
                    std::is_same_v<typename V::value_type,
                                   double>)&&(std::is_same_v<typename V::value_type,
                                                             typename More::value_type>&&...);

// All elements are computed in lanes of one type: float for float, bf16 and f16 in any mixture,
// double for double. simd::load_wide and store_narrow bring them there and back, rounded once.
template <class T, class... More>
concept SameLanes = Floating<T> &&(Floating<More>&&...) &&
                    (std::is_same_v<accumulate_t<T>, accumulate_t<More>> && ...);
template <class V, class... More>
concept Widenable = SameLanes<typename V::value_type, typename More::value_type...>;
template <class V>
using lanes_of = accumulate_t<typename V::value_type>;

// The last extent of every view is contiguous.
template <class... V>
bool unit_rows(const V&... v) {
  return ((V::rank == 0 || v.extent(V::rank - 1) <= 1 || v.stride(V::rank - 1) == 1) && ...);
}

namespace simd {

// v in the first n lanes, `rest` in the others.
template <class T>
DEEPSEEK_INLINE pack<T> first_lanes(pack<T> v, index_t n, T rest) {
  if (n >= pack<T>::width) return v;
  std::array<T, pack<T>::width> lane;
  std::iota(lane.begin(), lane.end(), T(0));
  return select_less(pack<T>::load(lane.data()), pack<T>::broadcast(static_cast<T>(n)), v,
                     pack<T>::broadcast(rest));
}

// Sums over i < n of the lanes of term(i, how many are left, or width), Count at once. Four partial
// sums each: the latency of an addition is hidden and long rows lose little. term leaves zero in
// the lanes beyond n.
template <class T, int Count, class Term>
DEEPSEEK_INLINE std::array<T, Count> row_sums(index_t n, const Term& term) {
  constexpr index_t width = pack<T>::width;
  pack<T> sums[4][Count];
  for (auto& part : sums) {
    for (auto& sum : part) sum = pack<T>::zero();
  }
  const auto add = [&](pack<T>(&part)[Count], index_t i, index_t rest)
      __attribute__((always_inline)) {
    const std::array<pack<T>, Count> terms = term(i, rest);
    for (int c = 0; c < Count; ++c) part[c] = part[c] + terms[static_cast<std::size_t>(c)];
  };
  index_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    unrolled<4>([&](auto k) __attribute__((always_inline)) { add(sums[k], i + k * width, width); });
  }
  for (; i < n; i += width) add(sums[0], i, n - i);
  std::array<T, Count> out;
  for (int c = 0; c < Count; ++c) {
    out[static_cast<std::size_t>(c)] =
        reduce_sum((sums[0][c] + sums[2][c]) + (sums[1][c] + sums[3][c]));
  }
  return out;
}

// f(i, how many) for each register of a row of n: width, a constant, for all but the last.
template <class T, class F>
DEEPSEEK_INLINE void along_row(index_t n, const F& f) {
  constexpr index_t width = pack<T>::width;
  index_t i = 0;
  for (; i + width <= n; i += width) f(i, width);
  if (i < n) f(i, n - i);
}

}  // namespace simd

// Rows of one task: some 16,000 elements, so that handing it out costs little.
inline index_t rows_per_task(index_t length) {
  return std::clamp<index_t>(16384 / std::max<index_t>(length, 1), 1, 1024);
}
inline index_t chunks_of(index_t n, index_t size) {
  return (n + size - 1) / size;
}

// f(first, last) on chunks of `size` rows out of n, in parallel.
template <class F>
void parallel_rows(const cpu& b, index_t n, index_t size, const F& f) {
  b.parallel(chunks_of(n, size),
             [&](index_t task) { f(task * size, std::min(n, (task + 1) * size)); });
}

// out[j] += partial[0, j] + partial[1, j] + ...: in this order.
template <class Partial, class Out>
void add_partials(const cpu& b, const Partial& partial, const Out& out) {
  using T = typename Partial::value_type;
  using simd::pack;
  constexpr index_t columns = 64;
  parallel_rows(b, out.extent(0), columns, [&](index_t first, index_t last) {
    for (index_t j = first; j < last; j += pack<T>::width) {
      auto sum = pack<T>::zero();
      for (index_t c = 0; c < partial.extent(0); ++c) {
        sum = sum + pack<T>::load_up_to(&partial(c, j), last - j);
      }
      auto* const to = out.data() + j;
      simd::store_narrow(to, simd::load_wide(to, last - j) + sum, last - j);
    }
  });
}
// Rows that share one row of partial sums.
inline constexpr index_t rows_per_partial = 64;

}  // namespace deepseek
