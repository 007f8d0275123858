// SPDX-License-Identifier: Apache-2.0
// Shapes that the tensor core kernels of attention take.
#pragma once

#include "ops/attention_case.hpp"

namespace attention_test {

struct width_pair {
  index_t d, dv;
};
inline constexpr width_pair tensor_widths[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}};
inline constexpr index_t tensor_heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {5, 1}};

inline problem tensor_problem(index_t n, index_t m, int widths, int heads) {
  problem p;
  p.n = n, p.m = m;
  p.d = tensor_widths[widths].d, p.dv = tensor_widths[widths].dv;
  p.h = tensor_heads[heads][0], p.hk = tensor_heads[heads][1];
  return p;
}

}  // namespace attention_test
