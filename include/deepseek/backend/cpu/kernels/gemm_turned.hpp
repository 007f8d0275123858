// SPDX-License-Identifier: Apache-2.0
// Few rows by 16-bit weights that lie along k, as a layer's plain ones do (turned_rows.hpp): the
// bits of packed products.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/narrow_product.hpp"
#include "deepseek/backend/cpu/kernels/turned_rows.hpp"

namespace deepseek::kernels {

// p.shape.m <= most_turned_rows, p.b.from contiguous along k.
template <class P>
void gemm_turned(thread_pool& pool, const P& p) {
  using form = typename P::form;
  constexpr std::ptrdiff_t width = 2 * simd::pack<float>::width, columns = 64;
  const auto& b = p.b.from;
  const turned_left left{p.left(0), p.row_bytes(), left_word_bytes<form>,
                         static_cast<int>(p.shape.m)};
  const auto part = [&](std::ptrdiff_t task) {
    const std::ptrdiff_t end = std::min(p.shape.n, (task + 1) * columns);
    for (std::ptrdiff_t n0 = task * columns; n0 < end; n0 += width) {
      const std::ptrdiff_t there = std::min(width, end - n0), row = 2 * b.b.column;
      auto target = p.open(0, p.shape.m, n0, there);
      const turning_rows weights{as_bytes(b.b.at(0, n0)), row, there, 2 * p.shape.k,
                                 turned_ahead(row)};
      auto order = order_after(weights, width / 2);
      alignas(64) float sums[most_turned_rows * width];
      target.at = sums, target.at_row = width;
      multiply_turned_rows<form>(left, weights.in(order), [&](std::ptrdiff_t j) {
        return float_sums{sums + j, width, start::zero};
      });
      target.close();
    }
  };
  const std::ptrdiff_t tasks = (p.shape.n + columns - 1) / columns;
  if (runs_serially(pool, p.shape)) {
    for (std::ptrdiff_t task = 0; task < tasks; ++task) part(task);
  } else {
    pool.parallel(tasks, part);
  }
}

}  // namespace deepseek::kernels
