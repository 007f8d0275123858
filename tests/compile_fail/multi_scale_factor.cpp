// expects: deepseek::multi_scale_attention: no factors, or one below 2 (scale 1 is there
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/multi_scale_attention.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t factor = 4;
#else
constexpr ds::index_t factor = 1;
#endif

constexpr ds::attention_config heads{.dim = 32, .heads = 4};
using layer = ds::multi_scale_attention<heads, ds::fixed_weights<>, ds::causal, factor>;
static_assert(layer::out == 32);
