// SPDX-License-Identifier: Apache-2.0
// compressed_attention with an indexer: the gradient with the choice held constant, a choice of all
// entries, names; packed sequences.
#include "deepseek/layers/compressed_attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr auto config(ds::index_t selected) {
  ds::compressed_attention_config c{.dim = 6,
                                    .heads = 4,
                                    .head_dim = 6,
                                    .rope_dim = 4,
                                    .q_rank = 5,
                                    .groups = 2,
                                    .group_rank = 3,
                                    .window = 3,
                                    .ratio = 2,
                                    .windows = ds::overlap::present};
  c.selected = selected;
  if (selected > 0) c.index_heads = 3, c.index_dim = 4;
  return c;
}
template <ds::index_t Selected>
using layer = ds::compressed_attention<config(Selected)>;

}  // namespace

TEST_CASE("compressed_attention, selected entries: gradients, sequences, names") {
  const ds::cpu b({.threads = 2});
  rows_of<double, 6> x(10);
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<layer<2>>(b, "compressed_attention", x.view(), run);
  const std::int32_t offsets[] = {0, 4, 4, 10};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<layer<2>>(b, "compressed_attention", x.view(), run);
  rows_of<float, 6> more(25);
  layer_test::expect_sequences_alone<layer<2>>(b, "compressed_attention", more, {0, 1, 1, 12, 25});

  layer_test::trial<layer<2>, double> t;
  std::string names;
  t.backward(b, x.view());
  ds::visit(
      [&](const ds::tensor_name& at, const auto& g) {
        if (at.path.find("indexer.") != 0) return;
        names += at.path + " ";
        for (ds::index_t i = 0; i < g.size(); ++i) CHECK(g.data()[i] == 0);
      },
      t.g);
  CHECK(names ==
        "indexer.wq_b.weight indexer.weights_proj.weight indexer.compressor.wkv.weight "
        "indexer.compressor.wgate.weight indexer.compressor.norm.weight indexer.compressor.ape ");
}

TEST_CASE("compressed_attention: a choice of all entries is no choice; a smaller one is") {
  const ds::cpu b;
  rows_of<double, 6> x(11);  // tensors of one path have the same first values
  const auto all = layer_test::trial<layer<0>, double>().forward(b, x.view());
  const auto five = layer_test::trial<layer<5>, double>().forward(b, x.view());
  const auto two = layer_test::trial<layer<2>, double>().forward(b, x.view());
  double same = 0, before = 0, after = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    same += std::fabs(all[i] - five[i]);
    (i < 30 ? before : after) += std::fabs(all[i] - two[i]);  // queries 0 .. 4 have two entries
  }
  CHECK(same < 1e-12);
  CHECK(before < 1e-12);
  CHECK(after > 1e-3);
}
