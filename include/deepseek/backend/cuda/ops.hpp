// SPDX-License-Identifier: Apache-2.0
// All ops of the cuda backend, over any device backend; includes nothing of CUDA.
#pragma once

#include "deepseek/backend/cuda/attention.hpp"
#include "deepseek/backend/cuda/attention_merge.hpp"
#include "deepseek/backend/cuda/block_top_k.hpp"
#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/expert_capacity.hpp"
#include "deepseek/backend/cuda/expert_load.hpp"
#include "deepseek/backend/cuda/expert_plan.hpp"
#include "deepseek/backend/cuda/expert_rows.hpp"
#include "deepseek/backend/cuda/gate.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/cuda/grouped_gemm.hpp"
#include "deepseek/backend/cuda/indexer_top_k.hpp"
#include "deepseek/backend/cuda/latent_attention.hpp"
#include "deepseek/backend/cuda/lightning_indexer.hpp"
#include "deepseek/backend/cuda/prefix_top_k.hpp"
#include "deepseek/backend/cuda/rms_norm.hpp"
#include "deepseek/backend/cuda/top_k.hpp"
