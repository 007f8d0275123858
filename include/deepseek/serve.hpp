// SPDX-License-Identifier: Apache-2.0
// Generation: sampling and the decoding loop.
#pragma once

#include "deepseek/serve/generate.hpp"
#include "deepseek/serve/sampler.hpp"
