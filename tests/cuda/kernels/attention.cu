// SPDX-License-Identifier: Apache-2.0
// Attention, forward and backward: on tensor cores for bf16 and f16, any widths for float; latent
// attention; see tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T, class P>
void attention(const ds::cuda& b, const batch<T>& q, const matrix<float>& lse) {
  const ds::attention_inputs in{q, q, q};
  const ds::attention_outputs out{q, lse};
  const ds::attention_spec<P, ds::device> spec;
  ds::ops::attention(b, in, out, spec);
  ds::ops::attention_backward(b, in, out, ds::attention_gradients{q, q, q, q}, spec);
}
using far_and_near = ds::both<ds::causal, ds::either<ds::local<1024>, ds::random_blocks<64, 3>>>;
template void attention<ds::bf16, ds::causal>(const ds::cuda&, const batch<ds::bf16>&,
                                              const matrix<float>&);
template void attention<ds::bf16, far_and_near>(const ds::cuda&, const batch<ds::bf16>&,
                                                const matrix<float>&);
template void attention<float, ds::causal>(const ds::cuda&, const batch<float>&,
                                           const matrix<float>&);

void latent(const ds::cuda& b, const batch<ds::bf16>& q, const matrix<ds::bf16>& kv) {
  ds::ops::latent_attention(b, ds::latent_inputs{q, q, kv}, ds::latent_weights{q, q},
                            ds::attention_outputs{q}, ds::attention_spec<ds::causal, ds::device>{});
}
