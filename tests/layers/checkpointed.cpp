// SPDX-License-Identifier: Apache-2.0
// checkpointed layers: the gradients of plain ones, bit for bit, dropout and random patterns among
// them, from a smaller tape; the balance loss is reported once.
#include "deepseek/layers/checkpointed.hpp"
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/transformer_block.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {
inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 8, .hidden = 6, .routed = 4, .active = 2, .balance = 0.1};
using seen = ds::both<ds::causal, ds::either<ds::local<2>, ds::random_blocks<2, 1>>>;
using block = ds::transformer_block<ds::multi_head_attention<heads, seen>, ds::moe<experts>,
                                    ds::dropout_config{.rate = 0.2}>;
using plain = ds::repeat<3, block>;
using saving = ds::repeat<3, ds::checkpointed<block>>;
}  // namespace

TEST_CASE("checkpointed: the same gradients from a smaller tape") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 8> x(50);
  layer_test::trial<plain, float> t;
  layer_test::trial<saving, float> s;
  ds::run_report of_plain, of_saving;
  auto run = layer_test::train;
  run.report = &of_plain;
  const auto dx = t.backward(b, x.view(), run);
  run.report = &of_saving;
  CHECK(support::same_bits(s.backward(b, x.view(), run), dx));
  CHECK(support::same_bits(layer_test::flat(s.g), layer_test::flat(t.g)));
  CHECK(of_plain.auxiliary_loss > 0);
  CHECK(of_saving.auxiliary_loss == of_plain.auxiliary_loss);
  CHECK_MESSAGE(3 * s.tape_bytes < t.tape_bytes, s.tape_bytes << " of " << t.tape_bytes);
}

TEST_CASE("checkpointed: a layer without parameters") {
  const ds::cpu b;
  rows_of<float, 8> x(5);
  using drop = ds::dropout<8, ds::dropout_config{.rate = 0.2}>;
  layer_test::trial<drop, float> t;
  layer_test::trial<ds::checkpointed<drop>, float> s;
  CHECK(support::same_bits(s.backward(b, x.view()), t.backward(b, x.view())));
}
