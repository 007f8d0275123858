// SPDX-License-Identifier: Apache-2.0
// Files: safetensors and checkpoints. Needs nlohmann-json (CMake target deepseek::io).
#pragma once

#include "deepseek/io/checkpoint.hpp"
#include "deepseek/io/checkpoint_files.hpp"
#include "deepseek/io/safetensors.hpp"
#include "deepseek/io/safetensors_writer.hpp"
