// SPDX-License-Identifier: Apache-2.0
// The tests of this op with whole tiles, in plain loops (backend/cpu/simd_tiles_emulated.hpp).
#define DEEPSEEK_EMULATED_TILES
#include "ops/int4_int8_gemm.cpp"
