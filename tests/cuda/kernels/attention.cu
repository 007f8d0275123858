// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores and warp groups, forward and backward; see
// tests/guards/cuda_kernels.py.
#include "cuda/kernels/attention_call.cuh"

FORWARD(ds::bf16, ds::causal, 64, 64)
FORWARD(ds::bf16, ds::causal, 128, 128)
BACKWARD(ds::bf16, ds::causal, 64, 64)
BACKWARD(ds::bf16, ds::causal, 128, 128)
