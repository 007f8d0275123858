// SPDX-License-Identifier: Apache-2.0
// Row-wise kernels as models use them; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void rows(const ds::cuda& b, const matrix<T>& x, const row<T>& w, const matrix<T>& y) {
  ds::ops::rms_norm(b, x, w, y, 1e-6);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, w}, y, ds::rms_norm_gradients{x, w}, 1e-6);
  ds::ops::layer_norm(b, x, ds::layer_norm_affine{w, w}, y, 1e-6);
  ds::ops::layer_norm_backward(b, ds::layer_norm_inputs{x, w}, y, ds::layer_norm_gradients{x, w, w},
                               1e-6);
  ds::ops::softmax(b, x, y);
  ds::ops::softmax_backward(b, y, y, x);
  ds::ops::hadamard(b, x, y);
  ds::ops::unit_rows(b, x, ds::unit_outputs{y, w});
  ds::ops::unit_rows_backward(b, ds::unit_outputs{y, w}, x, y);
}
template void rows(const ds::cuda&, const matrix<float>&, const row<float>&, const matrix<float>&);
template void rows(const ds::cuda&, const matrix<ds::bf16>&, const row<ds::bf16>&,
                   const matrix<ds::bf16>&);
