// SPDX-License-Identifier: Apache-2.0
// Attention of other widths on tensor cores, and of float by plain multiply-adds.
#include "cuda/kernels/attention_call.cuh"

FORWARD(ds::bf16, ds::causal, 96, 96)
FORWARD(ds::f16, ds::causal, 192, 128)
BACKWARD(ds::bf16, ds::causal, 96, 96)
BACKWARD(ds::f16, ds::causal, 192, 128)
FORWARD(float, ds::causal, 64, 64)
BACKWARD(float, ds::causal, 64, 64)
