// expects: deepseek::multi_head_attention: kv_heads does not divide heads
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::attention_config heads{.dim = 32, .heads = 4, .kv_heads = 2};
#else
constexpr ds::attention_config heads{.dim = 32, .heads = 4, .kv_heads = 3};
#endif

using layer = ds::multi_head_attention<heads, ds::causal>;
static_assert(layer::out == 32);
