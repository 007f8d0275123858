// SPDX-License-Identifier: Apache-2.0
// Generation: sampling, the decoding loop, speculative decoding.
#pragma once

#include "deepseek/serve/generate.hpp"
#include "deepseek/serve/sampler.hpp"
#include "deepseek/serve/speculative.hpp"
#include "deepseek/serve/speculative_sampler.hpp"
