// expects: deepseek::weight_gemm: w is no operand of a weight-only format
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/core/tensor.hpp>
#include <deepseek/ops/weight_gemm.hpp>
#include <deepseek/quant/int4_groups.hpp>

namespace ds = deepseek;

int main() {
  const ds::reference b;
  ds::tensor<float, ds::host, 2, 8> x;
  ds::tensor<float, ds::host, 2, 4> y;
#ifdef DEEPSEEK_POSITIVE
  const ds::int4_groups<32>::weight<float, ds::host, 4, 8> w;
  ds::ops::weight_gemm(b, x, w.operand(), y);
#else
  const ds::tensor<float, ds::host, 4, 8> w;
  ds::ops::weight_gemm(b, x, w.view(), y);
#endif
}
