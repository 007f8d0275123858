// SPDX-License-Identifier: Apache-2.0
// compressor: entries against their definition, each rotated by its window's first position; how
// many a call completes. (Gradients: with compressed_attention.)
#include "deepseek/layers/compressor.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/compressed_attention.hpp"
#include "oracle/rope_scaling.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

inline constexpr ds::compressor_config config{
    .dim = 6, .head_dim = 6, .rope_dim = 4, .ratio = 4, .windows = ds::overlap::present};
using layer = ds::compressor<config>;

}  // namespace

TEST_CASE("compressor: entries by their definition") {
  const ds::cpu b;
  rows_of<double, 6> x(19);
  layer_test::trial<layer, double> t;
  oracle::weights_by_name w;
  ds::visit([&](const ds::tensor_name& at,
                const auto& p) { w[at.path] = std::vector<double>(p.data(), p.data() + p.size()); },
            t.p);
  oracle::compressed_shape s{6, 1, 6, 4, 1, 1, 4, true, oracle::rope_table(1e4, 4)};
  const auto want = oracle::compressed_entries(x.values(), w, "", s);
  ds::arena<ds::host> tape;
  ds::keep<ds::nothing, layer, double, ds::host> kept;
  const ds::call<ds::cpu> c{b, {}, b.workspace(), tape, 0, {}};
  CHECK(layer::count(c, 19).entries == 4);
  ds::tensor<double, ds::host, 4, 6> y;
  ds::run_forward<layer>(c, t.p, ds::as_const(x.view()), y.view(), kept);
  support::expect("compressor", "entries",
                  support::compare(support::attention_limits(ds::dtype::f64, 64),
                                   std::vector<double>(y.data(), y.data() + 24), want, 6));
  support::facet("compressor", "forward");
}

TEST_CASE("compressor: a call completes the windows that end in it") {
  const ds::reference b;
  ds::arena<ds::host> tape;
  ds::call<ds::reference> c{b, {.start = 6}, b.workspace(), tape, 0, {}};
  CHECK(layer::count(c, 1).entries == 0);
  CHECK(layer::count(c, 2).entries == 1);
  CHECK(layer::count(c, 10).entries == 3);
  const std::int32_t offsets[] = {0, 7, 15};
  c.options = {.sequences = {offsets, {3}}};
  const ds::scope freed(b.workspace());
  const auto several = layer::count(c, 15);
  CHECK(several.entries == 3);
  CHECK(several.sequences(1) == 1);
}
