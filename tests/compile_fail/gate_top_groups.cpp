// expects: deepseek::gate: top_groups hold fewer experts than active
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int top_groups = 2;
#else
constexpr int top_groups = 1;
#endif

constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 8, .active = 3};
constexpr ds::gate_config limited{.groups = 4, .top_groups = top_groups};
static_assert(ds::moe<experts, ds::top_k_gate<limited>>::out == 8);
