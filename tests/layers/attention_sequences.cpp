// SPDX-License-Identifier: Apache-2.0
// multi_head_attention on the cpu: packed sequences have the bits of each alone, lengths 0 and 1
// among them; no bit depends on the number of threads; a float gradient is that of double.
#include "deepseek/layers/attention.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {
inline constexpr ds::attention_config heads{.dim = 16, .heads = 4, .kv_heads = 2};
using scattered = ds::both<ds::causal, ds::either<ds::local<4>, ds::random_blocks<4, 2>>>;
template <class P>
using layer = ds::multi_head_attention<heads, P>;
}  // namespace

TEST_CASE_TEMPLATE("attention layer: a packed sequence has the bits of itself alone", P, ds::causal,
                   ds::sliding<5>, scattered) {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 16> x(90);
  layer_test::expect_sequences_alone<layer<P>>(b, "attention layer", x, {0, 1, 1, 30, 31, 31, 90});
}

TEST_CASE("attention layer: no rows, one row, threads, float against double") {
  using one = layer<scattered>;
  rows_of<float, 16> x(70);
  rows_of<double, 16> exact_x(70);
  layer_test::trial<one, double> exact;
  layer_test::trial<one, float> first;
  const ds::cpu b;
  CHECK(first.forward(b, x.rows(0, 0)).empty());
  CHECK(first.backward(b, x.rows(0, 0)).empty());
  for (double g : layer_test::flat(first.g)) CHECK(g == 0);
  const auto dx = first.backward(b, x.view());
  for (int threads : {2, 3}) {
    const ds::cpu more{{.threads = threads}};
    layer_test::trial<one, float> t;
    CHECK(support::same_bits(t.backward(more, x.view()), dx));
    CHECK(support::same_bits(layer_test::flat(t.g), layer_test::flat(first.g)));
  }
  // Errors of four products and one softmax in float: a few hundred roundings at most.
  const auto want = exact.backward(b, exact_x.view());
  const auto difference =
      support::compare({.type = ds::dtype::f32, .relative = 256 * 0x1p-24}, dx, want, 16);
  support::expect("attention layer", "dx in float", difference);
}
