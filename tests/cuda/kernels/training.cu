// SPDX-License-Identifier: Apache-2.0
// What a training step runs beside products and attention; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void step(const ds::cuda& b, const matrix<T>& x, const indices& ids, const row<float>& losses) {
  ds::ops::embedding(b, ids, x, x);
  ds::ops::embedding_backward(b, ids, x, x);
  (void)ds::ops::cross_entropy(b, x, ids, losses);
  ds::ops::cross_entropy_gradient(b, x, ids, x);
  ds::ops::dropout(b, x, x, ds::dropout_spec{});
  (void)ds::ops::sum_of_squares(b, x);
  (void)ds::ops::all_finite(b, x);
}
template void step(const ds::cuda&, const matrix<float>&, const indices&, const row<float>&);
template void step(const ds::cuda&, const matrix<ds::bf16>&, const indices&, const row<float>&);

void optimizers(const ds::cuda& b, const matrix<float>& p, const matrix<float>& m) {
  ds::ops::adamw_update(b, p, m, ds::moments{m, m}, ds::adamw_step{});
  ds::ops::sgd_update(b, p, m, m, ds::sgd_step{});
  ds::ops::lion_update(b, p, m, m, ds::lion_step{});
}
