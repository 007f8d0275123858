// SPDX-License-Identifier: Apache-2.0
// One small net with everything in it: the gradient of the whole in double, the cache against the
// full run, and the promise that nothing depends on uninitialized memory or on threads.
#include "deepseek/deepseek.hpp"
#include "layers/layer_gradient.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>
#include <cstring>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 8, .hidden = 6, .routed = 4, .shared = 1, .active = 2, .balance = 0.03};
// Differences need a smooth loss: all experts are active, so no choice can flip within a step.
inline constexpr ds::moe_config all_experts{
    .dim = 8, .hidden = 6, .routed = 4, .shared = 1, .active = 4, .balance = 0.03};
using seen = ds::both<ds::causal, ds::either<ds::local<2>, ds::random_blocks<2, 1>>>;
template <ds::moe_config C>
using layer = ds::transformer_block<ds::multi_head_attention<heads, seen>,
                                    ds::moe<C, ds::softmax_top_k<ds::renormalize::yes>>,
                                    ds::dropout_config{.rate = 0.1}>;
template <ds::moe_config C>
struct net_of : ds::chain<ds::embedding<11, 8>, ds::repeat<2, ds::checkpointed<layer<C>>>,
                          ds::rms_norm<8>, ds::called<"head", ds::linear<8, 11>>> {};
using net = net_of<experts>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7};
ids some(ds::index_t n) {
  return {tokens, {n}};
}

}  // namespace

TEST_CASE("the gradient of a whole net") {
  ds::cpu b{{.threads = 2}};
  const std::int32_t offsets[] = {0, 4, 9};
  layer_test::expect_layer_gradient<net_of<all_experts>>(
      b, "small_net", some(9), {.how = ds::mode::training, .seed = 3, .sequences = {offsets, {3}}});
}

TEST_CASE("prefill and decode give the bits of the full run") {
  ds::cpu b{{.threads = 2}};
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  const auto full = m(b, some(9));
  auto decoder = m.decoder(b, 9);
  for (ds::index_t at = 0; at < 9;) {
    const ds::index_t n = at == 0 ? 3 : 1;
    const auto y = m.decode(b, ids{tokens + at, {n}}, decoder);
    for (ds::index_t i = 0; i < n; ++i) {
      CHECK(std::memcmp(&y(i, 0), full.data() + (at + i) * 11, 11 * sizeof(float)) == 0);
    }
    at += n;
  }
  CHECK_ERROR(ds::error_code::index_range, "decoder: 9 + 1", "capacity of 9",
              m.decode(b, some(1), decoder));
  CHECK(decoder.length() == 9);
  decoder.rewind(4);
  const auto again = m.decode(b, ids{tokens + 4, {1}}, decoder);
  CHECK(std::memcmp(&again(0, 0), full.data() + 4 * 11, 11 * sizeof(float)) == 0);
}

TEST_CASE("no bit depends on threads or on uninitialized memory") {
  std::vector<float> first;
  for (int threads : {1, 2, 3}) {
    for (int fill : {0x00, 0xff}) {
      ds::cpu b{{.threads = threads}};
      b.workspace().fill_with(static_cast<unsigned char>(fill));
      const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
      const auto y = m(b, some(9));
      const std::vector<float> now(y.data(), y.data() + y.size());
      if (first.empty()) first = now;
      CHECK(std::memcmp(now.data(), first.data(), now.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("names are those of the parts") {
  ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b);
  std::string all;
  ds::visit([&](const ds::tensor_name& at, const auto&) { all += at.path + " "; }, m.parameters());
  CHECK(all.find("embed.weight layers.0.attn_norm.weight layers.0.attn.wq.weight") == 0);
  CHECK(all.find("layers.1.ffn.experts.w2.weight") != std::string::npos);
  CHECK(all.find("layers.1.ffn.gate.load") != std::string::npos);
  CHECK(all.find("layers.1.ffn.shared_experts.w3.weight") != std::string::npos);
  CHECK(all.find("norm.weight head.weight ") != std::string::npos);
}

TEST_CASE("a token outside the vocabulary is an error") {
  ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{});
  const std::int32_t bad[] = {1, 11};
  CHECK_ERROR(ds::error_code::index_range, "11", m(b, ids{bad, {2}}));
}
