// SPDX-License-Identifier: Apache-2.0
// Products and elementwise kernels as models use them; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void dense(const ds::cuda& b, const matrix<T>& x, const matrix<T>& w, const row<T>& bias,
           const matrix<T>& y) {
  ds::ops::gemm(b, x, w, y, ds::gemm_epilogue{bias, ds::activation::silu});
  ds::ops::gemm(b, ds::transposed(x), w, y, ds::gemm_adds);
  ds::ops::gemm(b, as_batch(x), as_batch(w), as_batch(y));
  ds::ops::add_column_sums(b, x, bias);
  ds::ops::fill(b, 0.0, y);
  ds::ops::copy(b, x, y);
  ds::ops::scale(b, 2.0, y);
  ds::ops::add(b, x, y);
}
template void dense(const ds::cuda&, const matrix<float>&, const matrix<float>&, const row<float>&,
                    const matrix<float>&);
template void dense(const ds::cuda&, const matrix<ds::bf16>&, const matrix<ds::bf16>&,
                    const row<ds::bf16>&, const matrix<ds::bf16>&);
