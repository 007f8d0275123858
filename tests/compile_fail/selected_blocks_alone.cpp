// expects: deepseek::selected_blocks: nothing to select by (a pooled<> branch scores the
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/selected_blocks.hpp>

namespace ds = deepseek;

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
#ifdef DEEPSEEK_POSITIVE
using layer = ds::fused_attention<heads, ds::fixed_weights<>, ds::plain, ds::pooled<16>,
                                  ds::selected_blocks<>>;
#else
using layer = ds::fused_attention<heads, ds::fixed_weights<>, ds::plain, ds::selected_blocks<>>;
#endif

struct net : ds::chain<ds::embedding<11, 8>, layer> {};

void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  m(b, ids);
}
