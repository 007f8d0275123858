// SPDX-License-Identifier: Apache-2.0
// sum_of_squares on the cpu: the chunks of the reference's sum, its 16 lanes in registers.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/sum_of_squares.hpp"

namespace deepseek {

// width doubles from neighbouring floats or doubles.
template <class T>
simd::pack<double> load_doubles(const T* p) {
  constexpr int width = simd::pack<double>::width;
  simd::vector<T, width* static_cast<int>(sizeof(T))> narrow;
  __builtin_memcpy(&narrow, p, sizeof narrow);
  return {__builtin_convertvector(narrow, simd::vector<double>)};
}

template <class T>
double chunk_of_squares(const T* p, index_t n) {
  constexpr int width = simd::pack<double>::width, count = square_lanes::count / width;
  square_lanes lanes;
  simd::pack<double> sum[count];
  for (auto& s : sum) s = simd::pack<double>::zero();
  index_t e = 0;
  for (; e + square_lanes::count <= n; e += square_lanes::count) {
    for (int i = 0; i < count; ++i) {
      const auto x = load_doubles(p + e + i * width);
      sum[i] = fma(x, x, sum[i]);
    }
  }
  for (int i = 0; i < count; ++i) sum[i].store(lanes.lane + i * width);
  for (; e < n; ++e) lanes.add(e, static_cast<double>(p[e]));
  return lanes.total();
}

// Without fused multiply-add a register would round squares of double, the reference does not.
template <class X>
double sum_of_squares_impl(const cpu& b,
                           const X& x) requires(std::is_same_v<typename X::value_type, float> ||
                                                (std::is_same_v<typename X::value_type, double> &&
                                                 simd::has_fma)) {
  if (!x.contiguous()) return sum_of_squares_impl(static_cast<const reference&>(b), x);
  constexpr index_t size = square_lanes::chunk;
  const index_t n = x.size(), chunks = (n + size - 1) / size;
  scope freed(b.workspace());
  const auto sums = b.workspace().template make<double, dyn>(chunks);
  parallel_rows(b, chunks, rows_per_task(size), [&](index_t first, index_t end) {
    for (index_t c = first; c < end; ++c) {
      sums(c) = chunk_of_squares(x.data() + c * size, std::min(size, n - c * size));
    }
  });
  double sum = 0;
  for (index_t c = 0; c < chunks; ++c) sum += sums(c);
  return sum;
}

}  // namespace deepseek
