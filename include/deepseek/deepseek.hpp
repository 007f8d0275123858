// SPDX-License-Identifier: Apache-2.0
// Everything for .cpp files but files and serving: core, patterns, formats, ops, layers, training,
// the reference and the cpu backend. Order matters in one place: layers and ops come before the
// backends, whose overloads are found when a template is used.
#pragma once

#include "deepseek/data/masking.hpp"
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/balance.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/checkpointed.hpp"
#include "deepseek/layers/dropout.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/hash_gate.hpp"
#include "deepseek/layers/head.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/mtp.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/quantize.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/layers/rotary.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/layers/with_mtp.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/given_mask.hpp"
#include "deepseek/pattern/random_blocks.hpp"
#include "deepseek/quant/calibrate.hpp"
#include "deepseek/quant/int8.hpp"
#include "deepseek/train/trainer.hpp"

#include "deepseek/backend/reference/reference.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
