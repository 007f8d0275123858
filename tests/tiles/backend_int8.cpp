// SPDX-License-Identifier: Apache-2.0
// The tests of int8 products with whole tiles, in plain loops
// (backend/cpu/simd_tiles_emulated.hpp).
#define DEEPSEEK_EMULATED_TILES
#include "backend/int8.cpp"
