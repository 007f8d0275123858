// SPDX-License-Identifier: Apache-2.0
// The problem sizes of all benches, named as they appear in the results.
#pragma once

#include "deepseek/core/space.hpp"

namespace bench {

using deepseek::index_t;

// y[m, n] = x[m, k] w[n, k]^T
struct gemm_size {
  const char* name;
  index_t m, n, k;
};
inline constexpr gemm_size small_gemm{"m128_n128_k128", 128, 128, 128};
inline constexpr gemm_size one_token{"m1_n2048_k2048", 1, 2048, 2048};
inline constexpr gemm_size gemm_sizes[] = {
    small_gemm,
    one_token,                               // decoding one sequence
    {"m8_n2048_k2048", 8, 2048, 2048},       // decoding a batch
    {"m32_n2048_k2048", 32, 2048, 2048},     // a large batch, a short prompt
    {"m512_n2048_k2048", 512, 2048, 2048},   // a prompt, a step of training
    {"m512_n5632_k2048", 512, 5632, 2048}};  // its feed-forward layer

// rows [r, k] sorted by expert, weights [e, n, k]
struct experts_size {
  const char* name;
  index_t experts, rows, n, k;
};
inline constexpr experts_size experts_sizes[] = {
    {"e16_r64_n512_k512", 16, 64, 512, 512},       // decoding a batch: a few rows each
    {"e16_r2048_n512_k512", 16, 2048, 512, 512}};  // training: about 128 rows each

// Element-wise and row-wise ops: one size in the nearest caches, one far beyond the last.
struct rows_size {
  const char* name;
  index_t rows, dim;
};
inline constexpr rows_size rows_sizes[] = {{"64x1024", 64, 1024}, {"8192x1024", 8192, 1024}};
inline constexpr rows_size large_rows = rows_sizes[1];

struct attention_size {
  const char* name;
  index_t tokens, heads, kv_heads, dim;
};
inline constexpr attention_size prompt{"t2048_h8_kv2_d64", 2048, 8, 2, 64};

struct routing_size {
  const char* name;
  index_t tokens, experts, active, dim;
};
inline constexpr routing_size routing{"t2048_e64_k6_d1024", 2048, 64, 6, 1024};
inline constexpr routing_size many_experts{"t512_e256_k8_d7168", 512, 256, 8, 7168};

inline constexpr index_t scaling_tokens[] = {512, 1024, 2048, 4096, 8192, 16384, 32768};

}  // namespace bench
