// SPDX-License-Identifier: Apache-2.0
// Layers of several branches, and encoders with decoders, with 8-bit weights: every linear layer
// but the gates is converted, and the result stays near the plain one; bf16 forward and backward.
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/encoder_decoder.hpp"
#include "deepseek/layers/native_sparse_attention.hpp"
#include "deepseek/layers/quantize.hpp"

#include "deepseek/quant/int8.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 32, .heads = 4, .kv_heads = 2};
inline constexpr ds::attention_config across{.dim = 32, .heads = 4, .rope = ds::rotary::none};
inline constexpr ds::nsa_config native{
    .attention = heads,
    .stride = 2,
    .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
    .window = 3};
using blocks = ds::native_sparse_attention<native>;
using encoder = ds::chain<ds::embedding<11, 32>, ds::multi_head_attention<heads, ds::everyone>>;
struct net
    : ds::encoder_decoder<encoder,
                          ds::chain<ds::embedding<11, 32>, blocks, ds::cross_attention<across>>> {};
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 8, 8, 2, 1, 0, 4, 6, 9};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

}  // namespace

TEST_CASE("several branches, encoder and decoder: 8-bit weights") {
  const ds::cpu b({.threads = 2});
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 1});
  const auto small = ds::quantize<ds::w8a8_per_token>(b, m);
  const auto x = ds::source_and_target{ids(tokens, {9}), ids(tokens, {17})};
  const auto y = m(b, x), z = small(b, x);
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < y.size(); ++i) {
    error += std::pow(y.data()[i] - z.data()[i], 2);
    size += std::pow(y.data()[i], 2);
  }
  CHECK(error > 0);
  CHECK(std::sqrt(error / size) < 0.1);
  // Per token: the bits of one run when decoding, too.
  auto d = small.decoder(b, 17);
  small.decode(b, ds::source_and_target{ids(tokens, {9}), ids(tokens, {16})}, d);
  const auto last = small.decode(b, ds::source_and_target{ids{}, ids(tokens + 16, {1})}, d);
  const std::vector<float> got(last.data(), last.data() + 32);
  CHECK(support::same_bits(got, {z.data() + 16 * 32, z.data() + 17 * 32}));
}

TEST_CASE("several branches in bf16") {
  const ds::cpu b;
  layer_test::trial<blocks, ds::bf16> half;
  layer_test::trial<blocks, float> full;
  layer_test::rows_of<ds::bf16, 32> x(13);
  layer_test::rows_of<float, 32> wide(13);
  const auto y = support::to_double(half.forward(b, x.view()));
  const auto want = support::to_double(full.forward(b, wide.view()));
  double error = 0, size = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    error += (y[i] - want[i]) * (y[i] - want[i]);
    size += want[i] * want[i];
  }
  CHECK(std::sqrt(error / size) < 0.1);
  for (const double v : support::to_double(half.backward(b, x.view()))) CHECK(std::isfinite(v));
}

TEST_CASE("several branches: windows begin at whole windows without a cache") {
  const ds::cpu b;
  layer_test::trial<blocks, float> t;
  layer_test::rows_of<float, 32> x(4);
  CHECK_ERROR(ds::error_code::invalid_argument, "token_pool: begins at position 3", "multiple of 2",
              t.forward(b, x.view(), {.start = 3}));
}
