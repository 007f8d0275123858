// expects: deepseek::generate_speculative: this net drafts nothing (it has no multi-token
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/with_mtp.hpp>
#include <deepseek/serve/speculative.hpp>

namespace ds = deepseek;

using block = ds::swiglu<8, 12>;
#ifdef DEEPSEEK_POSITIVE
struct net : ds::with_mtp<ds::embedding<5, 8>, block, ds::mtp_layer<block>, ds::linear<8, 5>> {};
#else
struct net : ds::chain<ds::embedding<5, 8>, block, ds::linear<8, 5>> {};
#endif

void write(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
           const ds::view<const std::int32_t, ds::host, ds::dyn>& prompt) {
  ds::generate_speculative(b, m, prompt, {}, [](std::int32_t) {});
}
