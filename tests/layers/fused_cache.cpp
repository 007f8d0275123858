// SPDX-License-Identifier: Apache-2.0
// Layers of several branches in a decoder: prefill and single tokens give the bits of one run, also
// after going back; the caches that pages can hold.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dynamic_head_attention.hpp"
#include "deepseek/layers/dynamic_sparse_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/hierarchical_attention.hpp"
#include "deepseek/layers/mixed_attention.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/multi_scale_attention.hpp"
#include "deepseek/layers/native_sparse_attention.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "support/poison.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
using mixed = ds::mixed_attention<heads, ds::token_gates<>, ds::sliding<3>,
                                  ds::both<ds::causal, ds::random_blocks<2, 1>>>;
inline constexpr ds::dynamic_sparse_config top{
    .attention = heads, .window = 3, .global = {.count = 3}};
using sparse = ds::dynamic_sparse_attention<top>;
inline constexpr ds::nsa_config native{
    .attention = heads,
    .stride = 2,
    .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
    .window = 3};
using blocks = ds::native_sparse_attention<native>;
using counted = ds::dynamic_head_attention<heads, ds::causal>;
using scales = ds::multi_scale_attention<heads, ds::learned_weights<>, ds::sliding<3>, 2, 4>;
using levels = ds::local_then_summary<heads, 3, 4>;

template <class L>
struct net : ds::chain<ds::embedding<11, 8>, L> {};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

std::vector<std::int32_t> some_tokens() {
  std::vector<std::int32_t> t(33);
  for (std::size_t i = 0; i < t.size(); ++i) t[i] = static_cast<std::int32_t>(i * i % 11);
  return t;
}
template <class View>
std::vector<float> values(const View& y) {
  return {y.data(), y.data() + y.size()};
}

}  // namespace

TEST_CASE_TEMPLATE("a decoder gives the bits of one run", L, mixed, sparse, blocks, counted, scales,
                   levels) {
  static_assert(ds::rows_are_independent<L>);
  const ds::cpu b({.threads = 2});
  const ds::model<net<L>, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 1});
  const auto tokens = some_tokens();
  const ids all(tokens.data(), {33});
  const auto whole = m(b, all);
  const auto want = [&](ds::index_t from, ds::index_t n) {
    return std::vector<float>(whole.data() + from * 8, whole.data() + (from + n) * 8);
  };
  auto d = m.decoder(b, 33);
  CHECK(support::same_bits(values(m.decode(b, ds::rows(all, 0, 13), d)), want(0, 13)));
  for (ds::index_t t = 13; t < 20; ++t) {
    CHECK(support::same_bits(values(m.decode(b, ds::rows(all, t, 1), d)), want(t, 1)));
  }
  CHECK(support::same_bits(values(m.decode(b, ds::rows(all, 20, 13), d)), want(20, 13)));
  d.rewind(26);
  CHECK(support::same_bits(values(m.decode(b, ds::rows(all, 26, 3), d)), want(26, 3)));
  d.rewind(0);
  CHECK(support::same_bits(values(m.decode(b, ds::rows(all, 0, 5), d)), want(0, 5)));
}

TEST_CASE("mixed attention decodes from pages") {
  const ds::cpu b;
  const ds::model<net<mixed>, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 1});
  const auto tokens = some_tokens();
  const ids all(tokens.data(), {33});
  const auto whole = m(b, all);
  const auto pages = m.pages(b, {.pages = 12, .size = 4});
  auto first = m.decoder(b, pages), second = m.decoder(b, pages);
  m.decode(b, ds::rows(all, 0, 6), first);
  m.decode(b, ds::rows(all, 0, 9), second);
  const auto y = values(m.decode(b, ds::rows(all, 6, 8), first));
  CHECK(support::same_bits(y, {whole.data() + 48, whole.data() + 112}));
}
