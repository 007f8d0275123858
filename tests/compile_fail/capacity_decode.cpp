// expects: deepseek::moe: a capacity that holds in inference makes a row depend
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/moe.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr auto when = ds::during::training;
#else
constexpr auto when = ds::during::always;
#endif
inline constexpr ds::moe_config experts{
    .dim = 8, .hidden = 4, .routed = 2, .active = 1, .capacity = {.factor = 1.25, .when = when}};
using net = ds::chain<ds::embedding<4, 8>, ds::moe<experts>>;

void decode(const ds::reference& b, ds::model<net, float, ds::reference>& m,
            ds::view<const std::int32_t, ds::host, ds::dyn> token) {
  auto decoder = m.decoder(b, 8);
  m.decode(b, token, decoder);
}
