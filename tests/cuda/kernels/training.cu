// SPDX-License-Identifier: Apache-2.0
// What a training step calls beside products, norms and attention; see
// tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void elements(const ds::cuda& b, const matrix<T>& x, const row<T>& w, const matrix<T>& y) {
  ds::ops::silu(b, x, y);
  ds::ops::gelu_backward(b, x, y, y);
  ds::ops::swiglu(b, x, x, y);
  ds::ops::swiglu_backward(b, ds::swiglu_inputs{x, x}, y, ds::swiglu_gradients{x, y});
  ds::ops::dropout(b, x, y, {.rate = 0.1});
  ds::ops::scale_columns(b, x, w, y);
  ds::ops::all_finite(b, x);
  ds::ops::sum_of_squares(b, x);
}

template <class T>
void tokens(const ds::cuda& b, const matrix<T>& x, const indices& ids, const batch<T>& heads,
            const matrix<T>& y) {
  ds::ops::positions(b, 0, ids, ids);
  ds::ops::next_tokens(b, ids, ids, -100, ids);
  ds::ops::rope(b, heads, ids, heads, {});
  ds::ops::embedding(b, ids, x, y);
  ds::ops::embedding_backward(b, ids, y, x);
  ds::ops::pool(b, x, ids, ds::pooled_row::mean, y);
  ds::ops::pool_backward(b, y, ids, ds::pooled_row::mean, x);
}

template <class T>
void losses(const ds::cuda& b, const matrix<T>& x, const indices& ids, const row<T>& each,
            const matrix<T>& y) {
  ds::ops::cross_entropy(b, x, ids, each);
  ds::ops::cross_entropy_gradient(b, x, ids, y);
  ds::ops::kl_divergence(b, x, y);
  ds::ops::kl_divergence_gradient(b, x, y, y, 1);
  ds::ops::distillation(b, ds::distillation_inputs{x, y, ids});
  ds::ops::distillation_gradient(b, ds::distillation_inputs{x, y, ids}, y);
}

// Gradients and moments in float.
template <class T>
void updates(const ds::cuda& b, const matrix<T>& p, const matrix<float>& g,
             const matrix<float>& m) {
  ds::ops::adamw_update(b, p, g, ds::moments{m, m}, {});
  ds::ops::sgd_update(b, p, g, m, {});
  ds::ops::lion_update(b, p, g, m, {});
  ds::ops::amf_update(b, p, g, ds::amf_moments{m, m, m}, {});
}

template <class T>
void training(const ds::cuda& b, const matrix<T>& x, const row<T>& w, const batch<T>& heads,
              const indices& ids) {
  elements(b, x, w, x);
  tokens(b, x, ids, heads, x);
  losses(b, x, ids, w, x);
}
template void training(const ds::cuda&, const matrix<float>&, const row<float>&,
                       const batch<float>&, const indices&);
template void training(const ds::cuda&, const matrix<ds::bf16>&, const row<ds::bf16>&,
                       const batch<ds::bf16>&, const indices&);
template void updates(const ds::cuda&, const matrix<float>&, const matrix<float>&,
                      const matrix<float>&);
template void updates(const ds::cuda&, const matrix<ds::bf16>&, const matrix<float>&,
                      const matrix<float>&);
