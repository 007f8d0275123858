// SPDX-License-Identifier: Apache-2.0
// The cpu backend with all its ops.
#pragma once

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/cpu/layer_norm.hpp"
#include "deepseek/backend/cpu/rms_norm.hpp"
#include "deepseek/backend/cpu/rope.hpp"
#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/reference/reference.hpp"
