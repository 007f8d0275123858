// SPDX-License-Identifier: Apache-2.0
// Few rows of A by 16-bit weights whose columns are contiguous along k (a layer's plain weights):
// a block of columns turns in registers and is multiplied there, so that the weights stream through
// once and no panel is written. The sums are those of dot_tile.hpp: same bits.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/narrow_product.hpp"

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t most_turned_rows = 8;
// Rows that are compiled; A must be readable for so many.
constexpr int turned_rows(std::ptrdiff_t m) {
  return m <= 1 ? 1 : m <= 2 ? 2 : m <= 4 ? 4 : 8;
}

// `there` columns of k steps from `w` on. A row holds whole words of steps (two f16 steps, or a
// pair), the last filled up with zero.
template <class Form, int Rows>
__attribute__((noinline)) void multiply_turned(const dot_operands& o, byte_rows w, int there,
                                               const float_sums& sums) {
  using pack = simd::pack<float>;
  using left = typename Form::left;
  constexpr std::ptrdiff_t each = 2 / Form::steps * Form::parts;  // elements of A in a word
  constexpr auto word_bytes = each * static_cast<std::ptrdiff_t>(sizeof(left));
  simd::vector<float> acc[Rows];
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) { acc[i] = pack::zero().v; });
  const std::ptrdiff_t words = (o.steps + 1) / 2;
  for (std::ptrdiff_t k = 0; k < words; k += pack::width) {
    pack r[pack::width];
    turn_registers({w.data + 4 * k, w.row}, there, 2 * o.steps - 4 * k, r);
    const auto left_words = static_cast<int>(std::min<std::ptrdiff_t>(pack::width, words - k));
    const std::byte* const a = o.a + k * word_bytes;
    const auto add = [&](auto t) __attribute__((always_inline)) {
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        left x[each];
        __builtin_memcpy(x, a + i * o.a_row + t * word_bytes, sizeof x);
        acc[i] = Form::add_word(acc[i], x, simd::bits_of(r[t]));
      });
    };
    if (left_words == pack::width) {
      simd::unrolled<pack::width>(add);
    } else {
      simd::unrolled<pack::width>([&](auto t) __attribute__((always_inline)) {
        if (t < left_words) add(t);
      });
    }
  }
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) { sums.end(i, 0, acc[i]); });
}

// o.steps: elements of k.
template <class Form>
void multiply_turned(std::ptrdiff_t rows, const dot_operands& o, byte_rows w, int there,
                     const float_sums& sums) {
  switch (turned_rows(rows)) {
    case 1:
      return multiply_turned<Form, 1>(o, w, there, sums);
    case 2:
      return multiply_turned<Form, 2>(o, w, there, sums);
    case 4:
      return multiply_turned<Form, 4>(o, w, there, sums);
    default:
      return multiply_turned<Form, 8>(o, w, there, sums);
  }
}

// p.shape.m <= most_turned_rows, p.b.from contiguous along k.
template <class P>
void gemm_turned(thread_pool& pool, const P& p) {
  constexpr std::ptrdiff_t width = simd::pack<float>::width, columns = 64;
  const narrow_columns& b = p.b.from;
  const dot_operands o{p.left(0), p.row_bytes(), nullptr, 0, p.shape.k};
  const auto part = [&](std::ptrdiff_t task) {
    const std::ptrdiff_t end = std::min(p.shape.n, (task + 1) * columns);
    for (std::ptrdiff_t n0 = task * columns; n0 < end; n0 += width) {
      const auto there = static_cast<int>(std::min(width, end - n0));
      auto target = p.open(0, p.shape.m, n0, there);
      alignas(64) float sums[most_turned_rows * width];
      target.at = sums, target.at_row = width;
      multiply_turned<typename P::form>(
          p.shape.m, o, {reinterpret_cast<const unsigned char*>(b.b.at(0, n0)), 2 * b.b.column},
          there, target.sums(0, 0));
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
