// SPDX-License-Identifier: Apache-2.0
// What sparse attention chooses keys with; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

using ids_matrix = ds::view<std::int32_t, ds::device, ds::dyn, ds::dyn>;
using ids_batch = ds::view<std::int32_t, ds::device, ds::dyn, ds::dyn, ds::dyn>;

template <class T>
void choices(const ds::cuda& b, const batch<T>& q, const matrix<T>& k, const matrix<float>& scores,
             const ids_matrix& ids) {
  using spec = ds::attention_spec<ds::causal, ds::device>;
  const ds::indexer_inputs in{q, k, scores};
  ds::ops::lightning_indexer(b, in, scores, spec{});
  ds::ops::lightning_indexer_backward(b, in, scores, ds::indexer_gradients{q, k, scores}, spec{});
  ds::ops::indexer_top_k(b, in, ids, spec{}, ds::selection_order::by_position);
  ds::ops::block_top_k(b, ds::attention_weights_inputs{q, q, scores}, ids_batch{}, spec{}, {});
  ds::ops::prefix_top_k(b, row<float>{}, ids, ds::prefix_spec<ds::device>{});
  ds::ops::top_k(b, k, k, ids);
  ds::ops::top_k_backward(b, ids, k, k);
}
template void choices(const ds::cuda&, const batch<float>&, const matrix<float>&,
                      const matrix<float>&, const ids_matrix&);
template void choices(const ds::cuda&, const batch<ds::bf16>&, const matrix<ds::bf16>&,
                      const matrix<float>&, const ids_matrix&);
