// SPDX-License-Identifier: Apache-2.0
// compressed_attention: gradients of the window alone and with entries, packed sequences, names.
#include "deepseek/layers/compressed_attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

inline constexpr ds::compressed_attention_config base{.dim = 6,
                                                      .heads = 4,
                                                      .head_dim = 6,
                                                      .rope_dim = 4,
                                                      .q_rank = 5,
                                                      .groups = 2,
                                                      .group_rank = 3,
                                                      .window = 3};
constexpr auto with_entries(ds::index_t ratio, ds::overlap how) {
  auto c = base;
  c.ratio = ratio, c.windows = how, c.theta = 160000;
  c.scaling = {.kind = ds::rope_scaling_kind::yarn, .factor = 16, .original_length = 64};
  return c;
}
using window_only = ds::compressed_attention<base>;
using all_entries = ds::compressed_attention<with_entries(3, ds::overlap::absent)>;
using overlapped = ds::compressed_attention<with_entries(2, ds::overlap::present)>;

}  // namespace

TEST_CASE_TEMPLATE("compressed_attention: gradients", L, window_only, all_entries, overlapped) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 6> x(10, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "compressed_attention", x.view(), run);
  const std::int32_t offsets[] = {0, 4, 4, 10};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "compressed_attention", x.view(), run);
}

TEST_CASE_TEMPLATE("compressed_attention: sequences side by side", L, window_only, all_entries,
                   overlapped) {
  const ds::cpu b;
  rows_of<float, 6> x(25);
  layer_test::expect_sequences_alone<L>(b, "compressed_attention", x, {0, 1, 1, 12, 25});
}

TEST_CASE("compressed_attention: names as in the files") {
  layer_test::trial<all_entries, float> t;
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + "\n"; }, t.p);
  CHECK(names ==
        "wq_a.weight\nq_norm.weight\nwq_b.weight\nwkv.weight\nkv_norm.weight\nwo_a.weight\n"
        "wo_b.weight\nattn_sink\ncompressor.wkv.weight\ncompressor.wgate.weight\n"
        "compressor.norm.weight\ncompressor.ape\n");
}
