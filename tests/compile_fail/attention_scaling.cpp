// expects: deepseek::multi_head_attention: the rotary scaling cannot be used
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t length = 4096;
#else
constexpr ds::index_t length = 0;
#endif
constexpr ds::attention_config heads{
    .dim = 32,
    .heads = 4,
    .scaling = {.kind = ds::rope_scaling_kind::yarn, .factor = 40, .original_length = length}};

using layer = ds::multi_head_attention<heads, ds::causal>;
static_assert(layer::out == 32);
