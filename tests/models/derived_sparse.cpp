// SPDX-License-Identifier: Apache-2.0
// A small model derived from V3.2's value runs, and sees what V3's does while all keys are
// selected.
#include "deepseek/deepseek.hpp"
#include "deepseek/models/deepseek.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

constexpr ds::model_config shrink(ds::model_config c) {
  c.vocabulary = 17;
  c.dim = 16;
  c.layers = 2;
  c.hidden = 24;
  c.dense_layers = 1;
  c.latent = {.heads = 2,
              .q_rank = 12,
              .kv_rank = 8,
              .nope_dim = 8,
              .rope_dim = 4,
              .v_dim = 8,
              .form = ds::latent_form::naive};
  c.indexer.index_heads = 2;
  c.indexer.index_dim = 4;
  c.indexer.top_k = 8;
  c.experts.hidden = 8;
  c.experts.routed = 8;
  c.experts.active = 2;
  c.gate.groups = 4;
  c.gate.top_groups = 2;
  return c;
}
inline constexpr ds::model_config sparse = shrink(ds::v3_2), dense = shrink(ds::v3);
using net = ds::preset<sparse>::net;

}  // namespace

TEST_CASE("derived from V3.2: with top_k keys or fewer it is V3") {
  const ds::cpu b;
  const ds::normal_init init{.stddev = 0.2, .seed = 3};
  ds::model<net, double, ds::cpu> m(b, init);
  ds::model<ds::preset<dense>::net, double, ds::cpu> full(b, init);
  const std::int32_t tokens[] = {3, 16, 0, 7, 3, 3, 9, 1, 5, 5, 2, 11};
  const ds::view<const std::int32_t, ds::host, ds::dyn> few(tokens, {8}), many(tokens, {12});
  const auto apart = [](const auto& a, const auto& c) {
    double worst = 0;
    for (ds::index_t i = 0; i < a.size(); ++i) {
      worst = std::fmax(worst, std::fabs(a.data()[i] - c.data()[i]));
    }
    return worst;
  };
  CHECK(apart(m(b, few), full(b, few)) < 1e-12);
  CHECK(apart(m(b, many), full(b, many)) > 1e-6);  // four keys are left out
  CHECK(ds::cache_bytes_per_token<net, double>() == 2 * (8 + 4 + 4) * 8);
}
