// SPDX-License-Identifier: Apache-2.0
// Attention of a composed pattern, of one written out as a block list, and over listed keys, on
// tensor cores and warp groups.
#include "cuda/kernels/attention_call.cuh"

FORWARD(ds::bf16, far_and_near, 64, 64)
FORWARD(ds::bf16, far_and_near, 128, 128)
FORWARD(ds::bf16, ds::index_set, 128, 128)
FORWARD(ds::bf16, ds::block_list, 128, 128)
BACKWARD(ds::bf16, far_and_near, 128, 128)
BACKWARD(ds::bf16, ds::block_list, 128, 128)
