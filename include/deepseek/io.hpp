// SPDX-License-Identifier: Apache-2.0
// Files: safetensors, checkpoints, tokenizers. Needs nlohmann-json and PCRE2, and utf8proc for
// tokenizers with NFC (CMake target deepseek::io).
#pragma once

#include "deepseek/io/chat.hpp"
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
#include "deepseek/io/tokenizer.hpp"
