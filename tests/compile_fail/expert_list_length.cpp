// expects: deepseek::moe: expert_list does not name one layer for each routed expert
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int routed = 2;
#else
constexpr int routed = 3;
#endif

constexpr ds::moe_config experts{.dim = 8, .routed = routed, .active = 1};
using list = ds::expert_list<ds::swiglu<8, 4>, ds::linear<8, 8>>;
static_assert(ds::moe<experts, ds::softmax_top_k<>, list>::out == 8);
