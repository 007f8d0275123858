// SPDX-License-Identifier: Apache-2.0
// Parameter counts, active counts and cache sizes of the released models, from their types alone:
// exact numbers (by the shapes of their files' tensors, added up apart), and what is published of
// them to all its digits. No parameter is allocated.
#include "deepseek/models/counts.hpp"
#include "deepseek/models/deepseek.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace ds = deepseek;

namespace {

// published, active: in units of 1e9, with so many digits after the point. cache: elements.
struct row {
  ds::index_t exact, exact_active, cache;
  double published;
  int digits;
  double active = 0;
  int active_digits = 0;
};

bool rounds_to(ds::index_t n, double published, int digits) {
  const double unit = std::pow(10.0, 9 - digits);
  return std::round(static_cast<double>(n) / unit) == std::round(published * 1e9 / unit);
}

template <ds::model_config C>
void check(const row& r) {
  using net = typename ds::preset<C>::net;
  constexpr ds::index_t count = ds::parameter_count<net>();
  constexpr ds::index_t active = ds::active_parameter_count<net>();
  static_assert(count > 0 && active > 0 && active <= count);
  CHECK(count == r.exact);
  CHECK(active == r.exact_active);
  CHECK(rounds_to(count, r.published, r.digits));
  if (r.active > 0) CHECK(rounds_to(active, r.active, r.active_digits));
  CHECK(ds::cache_bytes_per_token<net, ds::bf16>() == 2 * r.cache);
  CHECK(ds::cache_bytes_per_token<net, float>() == 4 * r.cache);
}
template <ds::model_config C>
void check_dense(ds::index_t exact, ds::index_t cache, double published) {
  check<C>({exact, exact, cache, published, 3});
}

}  // namespace

TEST_CASE("counts: LLM and Coder") {
  check_dense<ds::llm_7b>(6910365696, 245760, 6.910);
  check_dense<ds::llm_67b>(67425001472, 194560, 67.425);
  check_dense<ds::coder_1_3b>(1346471936, 24 * 2 * 2048, 1.346);
  check_dense<ds::coder_6_7b>(6740512768, 32 * 2 * 4096, 6.741);
  check_dense<ds::coder_33b>(33342991360, 62 * 2 * 1024, 33.343);
}

TEST_CASE("counts: R1's distillations") {
  check_dense<ds::r1_distill_qwen_1_5b>(1777088000, 28 * 2 * 256, 1.777);
  check_dense<ds::r1_distill_qwen_7b>(7615616512, 28 * 2 * 512, 7.616);
  check_dense<ds::r1_distill_qwen_14b>(14770033664, 48 * 2 * 1024, 14.770);
  check_dense<ds::r1_distill_qwen_32b>(32763876352, 64 * 2 * 1024, 32.764);
  check_dense<ds::r1_distill_llama_8b>(8030261248, 32 * 2 * 1024, 8.030);
  check_dense<ds::r1_distill_llama_70b>(70553706496, 80 * 2 * 1024, 70.554);
}

TEST_CASE("counts: experts and latent attention") {
  check<ds::moe_16b>({16375728128, 2828650496, 114688, 16.376, 3, 2.83, 2});
  check<ds::v2_lite>({15706484224, 2661150208, 15552, 15.706, 3, 2.66, 2});
  check<ds::v2>({235741434880, 21375800320, 34560, 235.74, 2, 21.4, 1});
  check<ds::v3>({671026404352, 37552282624, 35136, 671.03, 2, 37.6, 1});
  static_assert(ds::r1 == ds::v3 && ds::v3_1 == ds::v3);
}

// Beside the latent row of 576, a token keeps an index key of 128.
TEST_CASE("counts: V3.2") {
  check<ds::v3_2>({671877929216, 38403807488, 61 * (576 + 128), 671.88, 2});
}

TEST_CASE("counts: a value derived from a released one") {
  constexpr auto shorter = [] {
    auto c = ds::v2_lite;
    c.layers = 4;
    return c;
  }();
  using net = ds::preset<shorter>::net;
  constexpr ds::index_t block = (15706484224 - 2 * 102400LL * 2048 - 2048 -
                                 ds::parameter_count<ds::dense_block<ds::v2_lite>>()) /
                                26;
  static_assert(ds::parameter_count<ds::expert_block<ds::v2_lite>>() == block);
  CHECK(ds::parameter_count<net>() == 15706484224 - 23 * block);
  CHECK(ds::cache_bytes_per_token<net>() == 4 * 576 * 2);
  CHECK(ds::preset<shorter>::config.experts.routed == 64);
}

TEST_CASE("counts: constants of the released models") {
  CHECK(ds::v2.latent.scaling.mscale_all_dim == 0.707);
  CHECK(ds::v3.latent.scaling.mscale_all_dim == 1);
  CHECK(ds::v3.latent_config().dim == 7168);
  CHECK((ds::v2.gate.scale == 16 && ds::v2.gate.norm == ds::renormalize::no));
  CHECK((ds::v3.gate.scale == 2.5 && ds::v3.gate.bias == ds::selection_bias::present));
  CHECK(ds::r1_distill_qwen_14b.eps == 1e-5);
  CHECK(ds::r1_distill_qwen_1_5b.heads.projection_bias == ds::bias::present);
  CHECK(ds::coder_33b.heads.scaling.factor == 4);
}
