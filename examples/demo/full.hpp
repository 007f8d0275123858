// SPDX-License-Identifier: Apache-2.0
// What the fp32 model gives. Compiled apart from the training (full.cpp), beside it.
#pragma once

#include "corpus.hpp"
#include "speed.hpp"

namespace demo {

// Bits per byte of every `stride`-th held-out document (1: all of them).
double held_bits_per_byte(const ds::cpu& b, const model& m, const corpus& text,
                          std::size_t stride = 1);
speed full_speed(const ds::cpu& b, const model& m, const corpus& text);
speculation full_speculation(const ds::cpu& b, const model& m, std::string_view prompt);

}  // namespace demo
