// expects: deepseek::deepseek_sparse_attention: queries are not compressed (the indexer reads
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/sparse_attention.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t q_rank = 8;
#else
constexpr ds::index_t q_rank = 0;
#endif
constexpr ds::dsa_config c{
    .attention = {.dim = 16, .heads = 2, .q_rank = q_rank, .kv_rank = 8, .nope_dim = 4, .v_dim = 4},
    .index_heads = 2,
    .index_dim = 8,
    .top_k = 4};

using layer = ds::deepseek_sparse_attention<c>;
static_assert(layer::out == 16);
