// SPDX-License-Identifier: Apache-2.0
// Few rows of A against a bf16 matrix B[k, n] with contiguous columns: a row of B becomes floats in
// registers and meets all rows of A, so that B is read once and nothing is written in between. What
// the products of absorbed latent attention are when one token is decoded. Every element is the fma
// chain over ascending k of gemm_tile.hpp: same bits as the tiles.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/kernels/stored_weights.hpp"

namespace deepseek::kernels {

struct bf16_steps {
  const std::uint16_t* b;
  std::ptrdiff_t row;  // from one k to the next
  operand<float> a;
  std::ptrdiff_t deep;
  float* c;
  std::ptrdiff_t c_row;
};

// `Vectors` registers of columns, or one that `count` columns fill.
template <int Rows, int Vectors>
__attribute__((noinline)) void multiply_bf16_steps(const bf16_steps& s, int count) {
  using pack = simd::pack<float>;
  constexpr std::ptrdiff_t ahead = 8;  // rows of B: neighbours seldom lie in one page
  typename pack::raw acc[Rows * Vectors];
  simd::unrolled<Rows * Vectors>([&](auto q)
                                     __attribute__((always_inline)) { acc[q] = pack::zero().v; });
  const std::uint16_t* b = s.b;
  const float* a = s.a.at(0, 0);
  for (std::ptrdiff_t k = 0; k < s.deep; ++k, b += s.row, a += s.a.column) {
    typename pack::raw left[Rows];
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      left[i] = pack::broadcast(a[i * s.a.row]).v;
    });
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      constexpr std::ptrdiff_t at = j * pack::width;
      if constexpr (at * sizeof(*b) % 64 == 0) __builtin_prefetch(b + ahead * s.row + at);
      const auto right = (Vectors > 1 ? simd::load_bf16(b + at) : simd::load_bf16(b, count)).v;
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        acc[i * Vectors + j] = simd::native::fma(left[i], right, acc[i * Vectors + j]);
      });
    });
  }
  simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
    pack{acc[q]}.store_up_to(s.c + q / Vectors * s.c_row + q % Vectors * pack::width, count);
  });
}

template <int Rows>
void multiply_bf16_columns(bf16_steps s, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t width = simd::pack<float>::width;
  constexpr int vectors = simd::register_count == 32 ? 16 / Rows : std::max(8 / Rows, 2);
  while (n > 0) {
    const std::ptrdiff_t done = n >= vectors * width ? vectors * width : std::min(n, width);
    done == vectors* width ? multiply_bf16_steps<Rows, vectors>(s, width)
                           : multiply_bf16_steps<Rows, 1>(s, static_cast<int>(done));
    s.b += done, s.c += done, n -= done;
  }
}

// Any number of rows, some at a time.
inline void multiply_bf16_few(bf16_steps s, std::ptrdiff_t m, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < m;) {
    const std::ptrdiff_t rows = m - i >= 4 ? 4 : m - i >= 2 ? 2 : 1;
    if (rows == 4) multiply_bf16_columns<4>(s, n);
    if (rows == 2) multiply_bf16_columns<2>(s, n);
    if (rows == 1) multiply_bf16_columns<1>(s, n);
    i += rows, s.a = s.a.from(rows, 0), s.c += rows * s.c_row;
  }
}

}  // namespace deepseek::kernels
