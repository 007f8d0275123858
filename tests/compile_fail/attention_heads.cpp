// expects: deepseek::multi_head_attention: heads does not divide dim; choose another number
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::attention_config heads{.dim = 32, .heads = 4};
#else
constexpr ds::attention_config heads{.dim = 32, .heads = 5};
#endif

using layer = ds::multi_head_attention<heads, ds::causal>;
static_assert(layer::out == 32);
