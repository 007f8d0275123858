// SPDX-License-Identifier: Apache-2.0
// What the gemm tests compare with: the chain that is promised, written as a loop, and matrices
// surrounded by NaN.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "deepseek/backend/cpu/kernels/gemm.hpp"

namespace gemm_oracle {

namespace k = deepseek::kernels;

// A matrix [rows, columns] inside a larger block filled with NaN: reading or writing outside it
// shows.
template <class T>
struct framed {
  std::ptrdiff_t rows, columns, row, column;
  std::vector<T> block;

  // `turned`: the contiguous direction is down a column. `spread`: no direction is contiguous.
  framed(std::ptrdiff_t m, std::ptrdiff_t n, bool turned = false, bool spread = false)
      : rows(m), columns(n) {
    const std::ptrdiff_t step = spread ? 3 : 1, line = (turned ? m : n) * step + 5;
    row = turned ? step : line;
    column = turned ? line : step;
    block.assign(static_cast<std::size_t>(line * ((turned ? n : m) + 2)),
                 std::numeric_limits<T>::quiet_NaN());
  }
  std::ptrdiff_t place(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return (row < column ? column : row) + i * row + j * column;
  }
  T& at(std::ptrdiff_t i, std::ptrdiff_t j) { return block[static_cast<std::size_t>(place(i, j))]; }
  T at(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return block[static_cast<std::size_t>(place(i, j))];
  }
  T* data() { return block.data() + place(0, 0); }
  k::operand<T> view() const { return {block.data() + place(0, 0), row, column}; }

  framed& fill(unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<T> uniform(-1, 1);
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for (std::ptrdiff_t j = 0; j < columns; ++j) at(i, j) = uniform(random);
    }
    return *this;
  }
  // Elements outside the matrix that are no longer NaN.
  std::ptrdiff_t damage() const {
    std::ptrdiff_t numbers = 0, inside = 0;
    for (T x : block) numbers += !std::isnan(x);
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for (std::ptrdiff_t j = 0; j < columns; ++j) inside += !std::isnan(at(i, j));
    }
    return numbers - inside;
  }
};

// Element (i, j) by the chain that gemm promises, beginning at c.
template <class T>
T chain(const framed<T>& a, const framed<T>& b, std::ptrdiff_t i, std::ptrdiff_t j, T c) {
  for (std::ptrdiff_t p = 0; p < a.columns; ++p) {
    if constexpr (deepseek::simd::has_fma) {
      c = std::fma(a.at(i, p), b.at(p, j), c);
    } else {
      volatile T product = a.at(i, p) * b.at(p, j);
      c = product + c;
    }
  }
  return c;
}

// Elements of c that are not bit for bit the chain beginning at `before` (or at zero where it is
// null).
template <class T>
int differing(const framed<T>& a, const framed<T>& b, const framed<T>& c, const framed<T>* before) {
  int wrong = 0;
  for (std::ptrdiff_t i = 0; i < c.rows; ++i) {
    for (std::ptrdiff_t j = 0; j < c.columns; ++j) {
      wrong += chain(a, b, i, j, before == nullptr ? T(0) : before->at(i, j)) != c.at(i, j);
    }
  }
  return wrong;
}

}  // namespace gemm_oracle
