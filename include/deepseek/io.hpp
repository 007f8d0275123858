// SPDX-License-Identifier: Apache-2.0
// Files: safetensors and checkpoints. Needs nlohmann-json (CMake target deepseek::io).
#pragma once

#include "deepseek/io/checkpoint.hpp"
#include "deepseek/io/checkpoint_config.hpp"
#include "deepseek/io/checkpoint_directory.hpp"
#include "deepseek/io/checkpoint_files.hpp"
#include "deepseek/io/load_checkpoint.hpp"
#include "deepseek/io/load_preset.hpp"
#include "deepseek/io/model_check.hpp"
#include "deepseek/io/safetensors.hpp"
#include "deepseek/io/safetensors_writer.hpp"
#include "deepseek/io/save_checkpoint.hpp"
