// SPDX-License-Identifier: Apache-2.0
// Products with weights in stored formats; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void formats(const ds::cuda& b, const matrix<T>& x, const matrix<T>& y, const indices& offsets) {
  ds::ops::weight_gemm(b, x, ds::int4_operand<ds::device, float>{}, y);
  ds::ops::weight_gemm(b, x, ds::int8_channels_operand<ds::device>{}, y);
  ds::ops::weight_gemm(b, x, ds::mxfp4_operand<ds::device>{}, y);
  ds::ops::weight_gemm(b, x, ds::fp8_operand<ds::device>{}, y);
  ds::ops::fp8_gemm(b, x, ds::fp8_operand<ds::device>{}, y);
  ds::ops::quant_gemm(b, x, ds::int8_operand<ds::device>{}, y);
  ds::ops::grouped_weight_gemm(b, x, ds::int4_operand<ds::device, float>{}, offsets, y);
  ds::ops::grouped_quant_gemm(b, x, ds::int8_operand<ds::device>{}, offsets, y);
}
template void formats(const ds::cuda&, const matrix<float>&, const matrix<float>&, const indices&);
template void formats(const ds::cuda&, const matrix<ds::bf16>&, const matrix<ds::bf16>&,
                      const indices&);
