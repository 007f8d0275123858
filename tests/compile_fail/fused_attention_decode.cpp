// expects: deepseek::fused_attention: cannot decode (a branch or the weights look at later
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/mixed_attention.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
#ifdef DEEPSEEK_POSITIVE
using seen = ds::sliding<4>;
#else
using seen = ds::local<4>;
#endif

struct net : ds::chain<ds::embedding<11, 8>,
                       ds::mixed_attention<heads, ds::fixed_weights<>, ds::causal, seen>> {};
using model = ds::model<net, float, ds::reference>;

void run(const ds::reference& b, const model& m, model::decoder_type& d,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  m.decode(b, ids, d);
}
