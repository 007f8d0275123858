// SPDX-License-Identifier: Apache-2.0
// Models with DeepSeek-V3.2's attention (latents of 512 and 64 numbers) and V4's (entries of 512),
// in bf16, on the simulated device: beyond top_k tokens the rows of the cache that the indexer
// chose are gathered, as selected entries are; decoding gives the bits of one run, near plain
// loops.
#include "deepseek/layers/sparse_attention.hpp"

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/compressed_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/residual.hpp"

#include "simulation/as_cpu.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

template <class Kernel>
inline constexpr int source_of = 0;
template <class Shape, class In, class Out, class Spec>
inline constexpr int source_of<ds::cuda_attention::latent_forward<Shape, In, Out, Spec>> = 1;
template <class Shape, class In, class Out, class Spec>
inline constexpr int source_of<
    ds::cuda_attention::latent_forward<Shape, In, Out, Spec, ds::cuda_attention::chosen_keys>> = 2;

// Counts the launches of latent attention.
struct watched : ds::cpu {
  static inline int all = 0, chosen = 0;
  template <class Kernel>
  void launch(const Kernel& kernel) const {
    all += source_of<Kernel> == 1 ? 1 : 0;
    chosen += source_of<Kernel> == 2 ? 1 : 0;
    ds::cpu::launch(kernel);
  }
};

constexpr ds::dsa_config shape{.attention = {.dim = 32,
                                             .heads = 16,
                                             .q_rank = 24,
                                             .kv_rank = 512,
                                             .nope_dim = 16,
                                             .rope_dim = 64,
                                             .v_dim = 16,
                                             .form = ds::latent_form::absorbed},
                               .index_heads = 2,
                               .index_dim = 64,
                               .top_k = 8,
                               .training = ds::indexer_training::none};
constexpr ds::compressed_attention_config entries{.dim = 32,
                                                  .heads = 8,
                                                  .head_dim = 512,
                                                  .rope_dim = 64,
                                                  .q_rank = 16,
                                                  .groups = 2,
                                                  .group_rank = 8,
                                                  .window = 4,
                                                  .ratio = 4,
                                                  .windows = ds::overlap::present,
                                                  .selected = 2,
                                                  .index_heads = 2,
                                                  .index_dim = 64};
template <class Attention>
struct net : ds::chain<ds::embedding<29, 32>, ds::repeat<2, ds::residual<Attention>>,
                       ds::called<"head", ds::linear<32, 29>>> {};

// A decode step of the full size chooses the absorbed form.
constexpr ds::dsa_config v3_2{.attention = {.dim = 7168,
                                            .heads = 128,
                                            .q_rank = 1536,
                                            .kv_rank = 512,
                                            .nope_dim = 128,
                                            .rope_dim = 64,
                                            .v_dim = 128}};
constexpr auto by_cost = ds::latent_form::by_cost, absorbed = ds::latent_form::absorbed;
static_assert(ds::chosen_sparse_form(v3_2, by_cost, 1, 4096) == absorbed);
static_assert(ds::chosen_sparse_form(v3_2, by_cost, 8, 1 << 17) == absorbed);

const std::int32_t text[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};
ds::view<const std::int32_t, ds::host, ds::dyn> tokens(ds::index_t first, ds::index_t n) {
  return {text + first, {n}};
}
template <class Y>
std::vector<ds::bf16> values(const Y& y) {
  return {y.data(), y.data() + y.size()};
}

// first: the first token whose step gathers.
template <class Net>
void expect_gathered(ds::index_t first, int other) {
  const watched b;
  const ds::model<Net, ds::bf16, watched> m(b, ds::normal_init{.stddev = 0.3F, .seed = 7});
  watched::chosen = watched::all = 0;
  const auto whole = values(m(b, tokens(0, 20)));
  CHECK(watched::chosen == 2);
  CHECK(watched::all == other);
  auto d = m.decoder(b, 20);
  std::vector<ds::bf16> steps;
  for (ds::index_t i = 0; i < 20; ++i) {
    watched::chosen = watched::all = 0;
    const auto y = values(m.decode(b, tokens(i, 1), d));
    steps.insert(steps.end(), y.begin(), y.end());
    CHECK(watched::chosen == (i < first ? 0 : 2));
    CHECK(watched::all == (i < first ? 2 : other));
  }
  CHECK(support::same_bits(steps, whole));

  const ds::reference host;
  const ds::model<Net, ds::bf16, ds::reference> plain(host, m);
  const auto want = values(plain(host, tokens(0, 20)));
  double apart = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double x = static_cast<float>(want[i]), y = static_cast<float>(whole[i]);
    apart += (x - y) * (x - y), size += x * x;
  }
  CHECK(apart < 1e-3 * size);
}

}  // namespace

TEST_CASE("sparse attention of 512 and 64 decodes by gathered rows") {
  expect_gathered<net<ds::deepseek_sparse_attention<shape>>>(shape.top_k, 0);
}

TEST_CASE("selected entries of 512 are gathered") {
  expect_gathered<net<ds::compressed_attention<entries>>>(0, 2);
}
