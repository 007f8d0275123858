// expects: deepseek::multi_head_attention: head_dim is odd (rotary embedding turns pairs); use an
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::attention_config heads{.dim = 32, .heads = 4, .head_dim = 6};
#else
constexpr ds::attention_config heads{.dim = 32, .heads = 4, .head_dim = 7};
#endif

using layer = ds::multi_head_attention<heads, ds::causal>;
static_assert(layer::out == 32);
