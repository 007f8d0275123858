// expects: deepseek::moe: active is not between 1 and routed
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int active = 4;
#else
constexpr int active = 5;
#endif

constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 4, .active = active};
static_assert(ds::moe<experts>::out == 8);
