// SPDX-License-Identifier: Apache-2.0
// The bodies of sinkhorn (formulas in ops/sinkhorn.hpp): one worker does one small matrix, n x n
// numbers in a row; shared by reference and cuda.
#pragma once

#include "deepseek/core/space.hpp"
#include "deepseek/ops/sinkhorn.hpp"

#include <cmath>

namespace deepseek {

// Line i of a matrix as n numbers `step` apart: a row or a column.
template <class A>
struct matrix_line {
  A* first;
  index_t n, step;
  DEEPSEEK_HOST_DEVICE A& operator[](index_t j) const { return first[j * step]; }
  DEEPSEEK_HOST_DEVICE A sum() const {
    A s = 0;
    for (index_t j = 0; j < n; ++j) s += (*this)[j];
    return s;
  }
};
// Step 0 divides columns, step 1 rows, and so on.
template <class A>
DEEPSEEK_HOST_DEVICE matrix_line<A> sinkhorn_line(A* m, index_t n, index_t step, index_t i) {
  return step % 2 == 0 ? matrix_line<A>{m + i, n, n} : matrix_line<A>{m + i * n, n, 1};
}
inline constexpr index_t sinkhorn_steps(const sinkhorn_spec& spec) {
  return 2 * spec.iterations - 1;
}
// Numbers that backward keeps: the softmax and what each step begins with.
inline constexpr index_t sinkhorn_memory(const sinkhorn_spec& spec, index_t n) {
  return (sinkhorn_steps(spec) + 1) * n * n;
}

// m: logits on entry, the softmax of each row after.
template <class A>
DEEPSEEK_HOST_DEVICE void softmax_rows(A* m, index_t n) {
  for (index_t i = 0; i < n; ++i) {
    A* row = m + i * n;
    A top = row[0], total = 0;
    for (index_t j = 1; j < n; ++j) top = row[j] > top ? row[j] : top;
    for (index_t j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
    for (index_t j = 0; j < n; ++j) row[j] /= total;
  }
}

// m: logits on entry, the result after. `memory`: null, or room for sinkhorn_memory numbers.
template <class A>
DEEPSEEK_HOST_DEVICE void sinkhorn_matrix(A* m, index_t n, const sinkhorn_spec& spec, A* memory) {
  const A eps = static_cast<A>(spec.eps);
  const auto remember = [&] {
    if (memory == nullptr) return;
    for (index_t i = 0; i < n * n; ++i) memory[i] = m[i];
    memory += n * n;
  };
  softmax_rows(m, n);
  remember();
  for (index_t i = 0; i < n * n; ++i) m[i] += eps;
  for (index_t step = 0; step < sinkhorn_steps(spec); ++step) {
    remember();
    for (index_t i = 0; i < n; ++i) {
      const auto line = sinkhorn_line(m, n, step, i);
      const A divisor = line.sum() + eps;
      for (index_t j = 0; j < n; ++j) line[j] /= divisor;
    }
  }
}

// g: the gradient of the result on entry, of the logits after. `memory`: what forward remembered.
template <class A>
DEEPSEEK_HOST_DEVICE void sinkhorn_matrix_backward(A* g, index_t n, const sinkhorn_spec& spec,
                                                   A* memory) {
  const A eps = static_cast<A>(spec.eps);
  for (index_t step = sinkhorn_steps(spec) - 1; step >= 0; --step) {
    for (index_t i = 0; i < n; ++i) {  // y = m / (sum m + eps)
      const auto m = sinkhorn_line(memory + (step + 1) * n * n, n, step, i);
      const auto d = sinkhorn_line(g, n, step, i);
      const A divisor = m.sum() + eps;
      A along = 0;
      for (index_t j = 0; j < n; ++j) along += d[j] * m[j] / divisor;
      for (index_t j = 0; j < n; ++j) d[j] = (d[j] - along) / divisor;
    }
  }
  for (index_t i = 0; i < n; ++i) {
    const A* p = memory + i * n;
    A along = 0;
    for (index_t j = 0; j < n; ++j) along += g[i * n + j] * p[j];
    for (index_t j = 0; j < n; ++j) g[i * n + j] = p[j] * (g[i * n + j] - along);
  }
}

}  // namespace deepseek
