// SPDX-License-Identifier: Apache-2.0
// All ops of the cuda backend, over any device backend; includes nothing of CUDA.
#pragma once

#include "deepseek/backend/cuda/attention.hpp"
#include "deepseek/backend/cuda/attention_merge.hpp"
#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/cuda/latent_attention.hpp"
#include "deepseek/backend/cuda/rms_norm.hpp"
