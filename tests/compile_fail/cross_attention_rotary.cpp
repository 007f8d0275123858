// expects: deepseek::cross_attention: keys and queries of two sequences are not rotated
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/cross_attention.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::attention_config heads{.dim = 32, .heads = 4, .rope = ds::rotary::none};
#else
constexpr ds::attention_config heads{.dim = 32, .heads = 4};
#endif

using layer = ds::cross_attention<heads>;
static_assert(layer::out == 32);
