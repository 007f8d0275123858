// SPDX-License-Identifier: Apache-2.0
// All ops of the cuda backend, over any device backend; includes nothing of CUDA.
#pragma once

#include "deepseek/backend/cuda/apply_mask.hpp"
#include "deepseek/backend/cuda/attention_sink.hpp"
#include "deepseek/backend/cuda/balance_loss.hpp"
#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/compress.hpp"
#include "deepseek/backend/cuda/contrastive.hpp"
#include "deepseek/backend/cuda/elastic_weights.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/fake_quantize.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/cuda/head_mask.hpp"
#include "deepseek/backend/cuda/hyper_maps.hpp"
#include "deepseek/backend/cuda/hyper_streams.hpp"
#include "deepseek/backend/cuda/preference.hpp"
#include "deepseek/backend/cuda/rms_norm.hpp"
#include "deepseek/backend/cuda/router_losses.hpp"
#include "deepseek/backend/cuda/router_noise.hpp"
#include "deepseek/backend/cuda/uncertainty_weights.hpp"
#include "deepseek/backend/cuda/unfold.hpp"
