// SPDX-License-Identifier: Apache-2.0
// What a mixture of experts runs; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

using ids_matrix = ds::view<std::int32_t, ds::device, ds::dyn, ds::dyn>;

// Scores and weights in float, as routers have them.
void route(const ds::cuda& b, const matrix<float>& scores, const row<float>& bias,
           const matrix<float>& weights, const ids_matrix& ids) {
  const ds::gate_outputs out{weights, ids};
  ds::ops::gate(b, scores, bias, out, {.score = ds::gate_score::sigmoid});
  ds::ops::gate_weights(b, scores, out);
  ds::ops::gate_backward(b, ds::gate_saved{scores, weights, ids}, weights, scores);
  ds::ops::expert_capacity(b, ds::capacity_inputs{scores, ids}, ids, {});
}
void plan(const ds::cuda& b, const ids_matrix& ids, const indices& offsets, const indices& source,
          const row<float>& load) {
  ds::ops::expert_plan(b, ids, 256, ds::expert_plan_views{offsets, source, ids});
  ds::ops::expert_load(b, offsets, load);
  ds::ops::choice_load(b, ids, load);
}

template <class T>
void products(const ds::cuda& b, const matrix<T>& x, const batch<T>& w, const indices& offsets) {
  ds::ops::grouped_gemm(b, x, w, offsets, x);
  ds::ops::grouped_gemm_backward(b, ds::grouped_gemm_inputs{x, w, offsets}, x,
                                 ds::grouped_gemm_gradients{x, w});
}
template void products(const ds::cuda&, const matrix<ds::f16>&, const batch<ds::f16>&,
                       const indices&);

template <class T>
void masked(const ds::cuda& b, const batch<T>& x, const batch<T>& w, const indices& counts) {
  ds::ops::masked_grouped_gemm(b, x, w, counts, x);
  ds::ops::masked_grouped_gemm_backward(b, ds::masked_grouped_gemm_inputs{x, w, counts}, x,
                                        ds::grouped_gemm_gradients{x, w});
}
template void masked(const ds::cuda&, const batch<float>&, const batch<float>&, const indices&);
template void masked(const ds::cuda&, const batch<ds::bf16>&, const batch<ds::bf16>&,
                     const indices&);

template <class T>
void experts(const ds::cuda& b, const matrix<T>& x, const batch<T>& w, const indices& offsets,
             const ids_matrix& slot) {
  ds::ops::permute(b, x, offsets, 8, x);
  ds::ops::permute_backward(b, x, slot, x);
  const matrix<float> weights;
  ds::ops::combine(b, x, ds::combine_by{weights, slot}, x);
  ds::ops::combine_backward(b, ds::combine_inputs{x, weights, slot}, x,
                            ds::combine_gradients{x, weights});
  products(b, x, w, offsets);
  ds::ops::add_expert_bias(b, x, offsets, x);
  ds::ops::add_expert_sums(b, x, offsets, x);
}
template void experts(const ds::cuda&, const matrix<float>&, const batch<float>&, const indices&,
                      const ids_matrix&);
template void experts(const ds::cuda&, const matrix<ds::bf16>&, const batch<ds::bf16>&,
                      const indices&, const ids_matrix&);
