// SPDX-License-Identifier: Apache-2.0
// Latent attention: on tensor cores, values the beginnings of their keys, all of them or listed
// ones; and of float, the whole op.
#include "cuda/kernels/attention_call.cuh"

FORWARD(ds::bf16, ds::causal, 576, 512)
FORWARD(ds::f16, ds::causal, 512, 512)
FORWARD(ds::bf16, ds::index_set, 576, 512)

void latent(const ds::cuda& b, const batch<float>& q, const matrix<float>& kv) {
  ds::ops::latent_attention(b, ds::latent_inputs{q, q, kv}, ds::latent_weights{q, q},
                            ds::attention_outputs{q}, ds::attention_spec<ds::causal, ds::device>{});
}
