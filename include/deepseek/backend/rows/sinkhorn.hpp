// SPDX-License-Identifier: Apache-2.0
// The bodies of sinkhorn (formulas in ops/sinkhorn.hpp): one worker does one small matrix, n x n
// numbers in a row; shared by reference and cuda. A row of numbers is a pointer A*, or on a device
// spread_numbers: each worker's next to those of its neighbours.
#pragma once

#include "deepseek/core/space.hpp"
#include "deepseek/ops/sinkhorn.hpp"

#include <cmath>

namespace deepseek {

// The numbers of one worker, `step` apart.
template <class A>
struct spread_numbers {
  A* first = nullptr;
  index_t step = 1;
  DEEPSEEK_HOST_DEVICE A& operator[](index_t i) const { return first[i * step]; }
  DEEPSEEK_HOST_DEVICE spread_numbers operator+(index_t i) const {
    return {first + i * step, step};
  }
};

// Line i of a matrix as n numbers `step` apart: a row or a column.
template <class A, class P = A*>
struct matrix_line {
  P first;
  index_t n, step;
  DEEPSEEK_HOST_DEVICE A& operator[](index_t j) const { return first[j * step]; }
  DEEPSEEK_HOST_DEVICE A sum() const {
    A s = 0;
    for (index_t j = 0; j < n; ++j) s += (*this)[j];
    return s;
  }
};
// Step 0 divides columns, step 1 rows, and so on.
template <class A, class P>
DEEPSEEK_HOST_DEVICE matrix_line<A, P> sinkhorn_line(P m, index_t n, index_t step, index_t i) {
  return step % 2 == 0 ? matrix_line<A, P>{m + i, n, n} : matrix_line<A, P>{m + i * n, n, 1};
}
DEEPSEEK_HOST_DEVICE constexpr index_t sinkhorn_steps(const sinkhorn_spec& spec) {
  return 2 * spec.iterations - 1;
}
// Numbers that backward keeps: the softmax and what each step begins with.
DEEPSEEK_HOST_DEVICE constexpr index_t sinkhorn_memory(const sinkhorn_spec& spec, index_t n) {
  return (sinkhorn_steps(spec) + 1) * n * n;
}

// One matrix [n, n] of any strides to and from n n numbers in a row.
template <class A, class X, class P>
DEEPSEEK_HOST_DEVICE void gather_matrix(const X& x, P to) {
  const index_t n = x.extent(1);
  for (index_t i = 0; i < x.extent(0); ++i) {
    for (index_t j = 0; j < n; ++j) to[i * n + j] = static_cast<A>(x(i, j));
  }
}
template <class P, class Y>
DEEPSEEK_HOST_DEVICE void scatter_matrix(P from, const Y& y) {
  const index_t n = y.extent(1);
  for (index_t i = 0; i < y.extent(0); ++i) {
    for (index_t j = 0; j < n; ++j) {
      y(i, j) = static_cast<typename Y::value_type>(from[i * n + j]);
    }
  }
}

// m: logits on entry, the softmax of each row after.
template <class A, class P>
DEEPSEEK_HOST_DEVICE void softmax_rows(P m, index_t n) {
  for (index_t i = 0; i < n; ++i) {
    const P row = m + i * n;
    A top = row[0], total = 0;
    for (index_t j = 1; j < n; ++j) top = row[j] > top ? row[j] : top;
    for (index_t j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
    for (index_t j = 0; j < n; ++j) row[j] /= total;
  }
}

// m: logits on entry, the result after. `memory`: none, or room for sinkhorn_memory numbers.
template <class A, class P, class Memory = none>
DEEPSEEK_HOST_DEVICE void sinkhorn_matrix(P m, index_t n, const sinkhorn_spec& spec,
                                          [[maybe_unused]] Memory memory = {}) {
  const A eps = static_cast<A>(spec.eps);
  [[maybe_unused]] index_t kept = 0;
  const auto remember = [&] {
    if constexpr (!std::is_same_v<Memory, none>) {
      for (index_t i = 0; i < n * n; ++i) memory[kept + i] = m[i];
      kept += n * n;
    }
  };
  softmax_rows<A>(m, n);
  remember();
  for (index_t i = 0; i < n * n; ++i) m[i] += eps;
  for (index_t step = 0; step < sinkhorn_steps(spec); ++step) {
    remember();
    for (index_t i = 0; i < n; ++i) {
      const auto line = sinkhorn_line<A>(m, n, step, i);
      const A divisor = line.sum() + eps;
      for (index_t j = 0; j < n; ++j) line[j] /= divisor;
    }
  }
}

// g: the gradient of the result on entry, of the logits after. `memory`: what forward remembered.
template <class A, class P, class Memory>
DEEPSEEK_HOST_DEVICE void sinkhorn_matrix_backward(P g, index_t n, const sinkhorn_spec& spec,
                                                   Memory memory) {
  const A eps = static_cast<A>(spec.eps);
  for (index_t step = sinkhorn_steps(spec) - 1; step >= 0; --step) {
    for (index_t i = 0; i < n; ++i) {  // y = m / (sum m + eps)
      const auto m = sinkhorn_line<A>(memory + (step + 1) * n * n, n, step, i);
      const auto d = sinkhorn_line<A>(g, n, step, i);
      const A divisor = m.sum() + eps;
      A along = 0;
      for (index_t j = 0; j < n; ++j) along += d[j] * m[j] / divisor;
      for (index_t j = 0; j < n; ++j) d[j] = (d[j] - along) / divisor;
    }
  }
  for (index_t i = 0; i < n; ++i) {
    const auto p = memory + i * n;
    A along = 0;
    for (index_t j = 0; j < n; ++j) along += g[i * n + j] * p[j];
    for (index_t j = 0; j < n; ++j) g[i * n + j] = p[j] * (g[i * n + j] - along);
  }
}

}  // namespace deepseek
