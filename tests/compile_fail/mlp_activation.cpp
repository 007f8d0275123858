// expects: deepseek::mlp: two linear layers without activation are one; write activation::relu
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/mlp.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr auto act = ds::activation::gelu;
#else
constexpr auto act = ds::activation::none;
#endif

static_assert(ds::mlp<8, 16, act>::out == 8);
