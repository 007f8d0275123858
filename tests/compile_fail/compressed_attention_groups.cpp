// expects: deepseek::compressed_attention: groups does not divide heads
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/compressed_attention.hpp>

namespace ds = deepseek;

constexpr ds::compressed_attention_config config(ds::index_t groups) {
  return {.dim = 16, .heads = 4, .head_dim = 8, .q_rank = 8, .groups = groups, .group_rank = 4};
}
#ifdef DEEPSEEK_POSITIVE
using layer = ds::compressed_attention<config(2)>;
#else
using layer = ds::compressed_attention<config(3)>;
#endif
static_assert(layer::out == 16);
