// SPDX-License-Identifier: Apache-2.0
// latent_attention: gradients with and without query compression, with and without a rotated part,
// with YaRN, packed sequences and several patterns; training runs the naive form whatever is asked.
#include "deepseek/layers/latent_attention.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/reference/reference.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

inline constexpr ds::mla_config compressed{
    .dim = 6, .heads = 2, .q_rank = 3, .kv_rank = 4, .nope_dim = 3, .rope_dim = 2, .v_dim = 2};
inline constexpr ds::mla_config direct{.dim = 6,
                                       .heads = 3,
                                       .kv_rank = 4,
                                       .nope_dim = 2,
                                       .rope_dim = 4,
                                       .v_dim = 3,
                                       .rope = ds::rope_layout::half,
                                       .scaling = {.kind = ds::rope_scaling_kind::yarn,
                                                   .factor = 4,
                                                   .original_length = 8,
                                                   .mscale = 1,
                                                   .mscale_all_dim = 0.5}};
inline constexpr ds::mla_config without_rope{
    .dim = 6, .heads = 2, .kv_rank = 3, .nope_dim = 3, .v_dim = 2, .scale = 0.7};
using scattered = ds::both<ds::causal, ds::either<ds::local<1>, ds::random_blocks<2, 1>>>;

template <ds::mla_config C, class P>
void check() {
  const ds::reference b;
  rows_of<double, 6> x(7);
  const std::int32_t offsets[] = {0, 3, 3, 7};
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<ds::latent_attention<C, P>>(b, "latent_attention layer",
                                                                x.view(), run);
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<ds::latent_attention<C, P>>(b, "latent_attention layer",
                                                                x.view(), run);
}

}  // namespace

TEST_CASE("latent_attention layer: gradient with compressed queries, causal") {
  check<compressed, ds::causal>();
}
TEST_CASE("latent_attention layer: gradient with direct queries, yarn, a window") {
  check<direct, ds::sliding<3>>();
}
TEST_CASE("latent_attention layer: gradient without a rotated part, random blocks") {
  check<without_rope, scattered>();
}

TEST_CASE("latent_attention layer: training is naive whatever the call asks") {
  const ds::reference b;
  rows_of<double, 6> x(6);
  layer_test::trial<ds::latent_attention<compressed, ds::causal>, double> naive, absorbed;
  auto run = layer_test::train;
  run.latent = ds::latent_form::absorbed;
  CHECK(support::same_bits(naive.backward(b, x.view()), absorbed.backward(b, x.view(), run)));
  CHECK(layer_test::flat(naive.g) == layer_test::flat(absorbed.g));
}
