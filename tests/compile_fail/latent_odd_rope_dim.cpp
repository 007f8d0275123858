// expects: deepseek::latent_attention: rope_dim is odd or negative
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/latent_attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t rope = 4;
#else
constexpr ds::index_t rope = 3;
#endif
constexpr ds::mla_config sizes{
    .dim = 32, .heads = 4, .kv_rank = 8, .nope_dim = 6, .rope_dim = rope, .v_dim = 6};

using layer = ds::latent_attention<sizes, ds::causal>;
static_assert(layer::out == 32);
