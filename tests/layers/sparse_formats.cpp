// SPDX-License-Identifier: Apache-2.0
// Sparse attention with its weights in bf16 is the plain layer on the rounded weights, bit by bit:
// the indexer's weights follow the format, those of its heads (weights_proj) stay as they are.
#include "layers/sparse_case.hpp"

#include "deepseek/layers/quantize.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

using namespace sparse_test;

TEST_CASE("sparse attention in bf16 weights") {
  using net =
      ds::deepseek_sparse_attention<with(ds::indexer_training::none, ds::latent_form::absorbed, 4)>;
  const ds::cpu b{{.threads = 2}};
  ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.gain = 1, .seed = 7});
  const auto small = ds::quantize<ds::bf16_weights>(b, m);
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        if (at.path.find("norm") != std::string::npos) return;
        if (at.path.find("weights_proj") != std::string::npos) return;
        for (ds::index_t i = 0; i < t.size(); ++i) {
          t.data()[i] = static_cast<float>(ds::bf16(t.data()[i]));
        }
      },
      m.parameters());
  layer_test::rows_of<float, 10> x(15);
  const auto want = m(b, x.view()), got = small(b, x.view());
  CHECK(support::same_bits(std::vector<float>(got.data(), got.data() + got.size()),
                           std::vector<float>(want.data(), want.data() + want.size())));
}
