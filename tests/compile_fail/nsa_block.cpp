// expects: deepseek::native_sparse_attention: a block is not whole windows (blocks are scored
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/native_sparse_attention.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t stride = 16;
#else
constexpr ds::index_t stride = 24;
#endif

constexpr ds::nsa_config config{.attention = {.dim = 32, .heads = 4}, .stride = stride};
static_assert(ds::native_sparse_attention<config>::out == 32);
