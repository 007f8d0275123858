// expects: deepseek::moe: this expert keeps a cache and cannot decode
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/attention.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/moe.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

inline constexpr ds::moe_config experts{.dim = 8, .hidden = 4, .routed = 2, .active = 1};
inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
#ifdef DEEPSEEK_POSITIVE
using expert = ds::swiglu<8, 4>;
#else
using expert = ds::multi_head_attention<heads, ds::causal>;
#endif
using net = ds::chain<ds::embedding<4, 8>, ds::moe<experts, ds::softmax_top_k<>, expert>>;

void decode(const ds::reference& b, ds::model<net, float, ds::reference>& m,
            ds::view<const std::int32_t, ds::host, ds::dyn> token) {
  auto decoder = m.decoder(b, 8);
  m.decode(b, token, decoder);
}
