// expects: deepseek::compressed_attention: selected without entries
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/compressed_attention.hpp>

namespace ds = deepseek;

constexpr ds::compressed_attention_config config(ds::index_t ratio) {
  return {.dim = 16,
          .heads = 4,
          .head_dim = 8,
          .q_rank = 8,
          .group_rank = 4,
          .ratio = ratio,
          .selected = 2,
          .index_heads = 2,
          .index_dim = 4};
}
#ifdef DEEPSEEK_POSITIVE
using layer = ds::compressed_attention<config(4)>;
#else
using layer = ds::compressed_attention<config(0)>;
#endif
static_assert(layer::out == 16);
