// expects: deepseek::gate: groups does not divide the routed experts
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int groups = 4;
#else
constexpr int groups = 3;
#endif

constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 8, .active = 2};
constexpr ds::gate_config limited{.groups = groups, .top_groups = 2};
static_assert(ds::moe<experts, ds::top_k_gate<limited>>::out == 8);
