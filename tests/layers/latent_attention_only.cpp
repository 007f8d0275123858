// SPDX-License-Identifier: Apache-2.0
// Latent attention where a format is for other layers only, and where it is trained for a format:
// the matrix that is absorbed stays plain.
#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

inline constexpr ds::mla_config latent{
    .dim = 32, .heads = 2, .kv_rank = 16, .nope_dim = 8, .rope_dim = 8, .v_dim = 8};
using attention = ds::latent_attention<latent, ds::causal>;
using head = ds::linear<32, 24>;
struct net : ds::chain<ds::embedding<24, 32>, attention, head> {};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3},
                   next[] = {1, 4, 1, 5, 9, 2, 6, 5, 3, 5};

}  // namespace

TEST_CASE("latent attention outside of what a format is for is the plain one") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.seed = 2});
  const auto small = ds::quantize<ds::only<ds::mxfp4, ds::linear<7, 7>>>(b, m);
  const auto y = small(b, ids(tokens, {10})), want = m(b, ids(tokens, {10}));
  CHECK(std::memcmp(y.data(), want.data(), 240 * sizeof(float)) == 0);
  const auto inside = ds::quantize<ds::only<ds::mxfp4, attention>>(b, m);
  static_assert(
      std::is_same_v<decltype(inside.parameters().get<1>().wkv_b.weight)::value_type, ds::bf16>);
  CHECK(inside(b, ids(tokens, {10})).size() == 240);
}

TEST_CASE("latent attention is trained for a format") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.seed = 2});
  auto fake = ds::fake_quantize<ds::int8_channels>(b, m);
  ds::trainer trainer(b, fake, ds::adamw{},
                      ds::warmup_cosine{.peak = 1e-2, .warmup = 1, .total = 40});
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    last = trainer.micro_step(ids(tokens, {10}), ids(next, {10}))->loss;
    if (step == 0) first = last;
  }
  CHECK(last < 0.5 * first);
  CHECK(ds::quantize<ds::int8_channels>(b, fake)(b, ids(tokens, {10})).size() == 240);
}
