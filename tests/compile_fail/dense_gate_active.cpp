// expects: deepseek::dense_gate: active is not routed
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/dense_gate.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int active = 4;
#else
constexpr int active = 2;
#endif

constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 4, .active = active};
static_assert(ds::moe<experts, ds::dense_gate>::out == 8);
