// SPDX-License-Identifier: Apache-2.0
// All ops of the cuda backend, over any device backend; includes nothing of CUDA.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/dequantize_fp8.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/fp8_gemm.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/cuda/quant_gemm.hpp"
#include "deepseek/backend/cuda/quantize_fp8.hpp"
#include "deepseek/backend/cuda/quantize_int8.hpp"
#include "deepseek/backend/cuda/rms_norm.hpp"
#include "deepseek/backend/cuda/weight_gemm.hpp"
