// SPDX-License-Identifier: Apache-2.0
// How element-wise and row-wise work is cut into tasks: by fixed sizes, never by threads.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/rows/row_at.hpp"

#include <algorithm>

namespace deepseek {

template <class T>
concept SimdElement = std::is_same_v<T, float> || std::is_same_v<T, double>;

inline constexpr index_t elements_per_task = index_t{1} << 14;

// f(first, end) on the rows of [0, n), so many of them that a task has about 16384 elements.
template <class F>
void parallel_rows(const cpu& b, index_t n, index_t row_elements, F&& f) {
  const index_t step = std::max<index_t>(1, elements_per_task / std::max<index_t>(1, row_elements));
  b.parallel((n + step - 1) / step,
             [&](index_t task) { f(task * step, std::min(n, (task + 1) * step)); });
}

// Neighbouring elements in the last extent.
template <class... V>
bool unit_rows(const V&... v) {
  return ((row_stride(v) == 1 || row_length(v) <= 1) && ...);
}

// f(first, count, pointer of each view) on runs of neighbouring elements that cover views of one
// shape; `first` counts in row-major order. False, and nothing was done, where strides forbid it.
template <class F, class... V>
bool parallel_runs(const cpu& b, const F& f, const V&... v) {
  if ((v.contiguous() && ...)) {
    const index_t n = std::get<0>(std::tie(v...)).size();
    parallel_rows(b, n, 1,
                  [&](index_t first, index_t end) { f(first, end - first, v.data() + first...); });
    return true;
  }
  if (!unit_rows(v...)) return false;
  const auto& like = std::get<0>(std::tie(v...));
  const index_t length = row_length(like);
  parallel_rows(b, row_count(like), length, [&](index_t first, index_t end) {
    for (index_t r = first; r < end; ++r) f(r * length, length, row_at(v, r).data()...);
  });
  return true;
}

}  // namespace deepseek
