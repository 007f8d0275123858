// expects: deepseek::latent_attention: kv_rank is not positive
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/latent_attention.hpp>
#include <deepseek/pattern/band.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::mla_config sizes{.dim = 32, .heads = 4, .kv_rank = 8, .nope_dim = 6, .v_dim = 6};
#else
constexpr ds::mla_config sizes{.dim = 32, .heads = 4, .nope_dim = 6, .v_dim = 6};
#endif

using layer = ds::latent_attention<sizes, ds::causal>;
static_assert(layer::out == 32);
