// SPDX-License-Identifier: Apache-2.0
// Text before it is tokens, and tokens before they are batches: include beside deepseek.hpp.
#pragma once

#include "deepseek/data/augmentation.hpp"
#include "deepseek/data/characters.hpp"
#include "deepseek/data/cleaning.hpp"
#include "deepseek/data/duplicates.hpp"
#include "deepseek/data/joining.hpp"
#include "deepseek/data/labels.hpp"
#include "deepseek/data/masking.hpp"
#include "deepseek/data/mixing.hpp"
#include "deepseek/data/packing.hpp"
