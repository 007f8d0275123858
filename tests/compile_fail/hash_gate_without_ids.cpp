// expects: deepseek::call: this layer needs a value that the call does not carry
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/hash_gate.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 4, .active = 2};
using layer = ds::moe<experts, ds::hash_gate<16>>;
#ifdef DEEPSEEK_POSITIVE
struct net : ds::chain<ds::embedding<16, 8>, layer> {};
using input = ds::view<const std::int32_t, ds::host, ds::dyn>;
#else
struct net : layer {};
using input = ds::view<const float, ds::host, ds::dyn, 8>;
#endif

auto run(const ds::reference& b, const ds::model<net, float, ds::reference>& m, const input& x) {
  return m(b, x);
}
