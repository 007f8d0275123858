// SPDX-License-Identifier: Apache-2.0
// DeepSeek sparse attention: an indexer scores all keys in few, cheap numbers; attention sees the
// top_k of them. Up to top_k tokens it is latent attention; beyond, the cost of attention per token
// stays where it is. Prints what a token costs, and the keys that one query selects.
#include <deepseek/deepseek.hpp>
#include <deepseek/pattern/draw.hpp>

#include <cmath>
#include <cstdio>

namespace ds = deepseek;

// DeepSeek-V3.2's attention, its rows cached in 8 bits.
inline constexpr ds::dsa_config v3_2{.attention = {.dim = 7168,
                                                   .heads = 128,
                                                   .q_rank = 1536,
                                                   .kv_rank = 512,
                                                   .nope_dim = 128,
                                                   .rope_dim = 64,
                                                   .v_dim = 128},
                                     .latents = ds::row_precision::fp8,
                                     .index_rows = ds::row_precision::fp8};

// A small one to run.
inline constexpr ds::dsa_config small{.attention = {.dim = 32,
                                                    .heads = 4,
                                                    .q_rank = 16,
                                                    .kv_rank = 16,
                                                    .nope_dim = 8,
                                                    .rope_dim = 4,
                                                    .v_dim = 8,
                                                    .form = ds::latent_form::absorbed},
                                      .index_heads = 4,
                                      .index_dim = 16,
                                      .top_k = 8};
struct net : ds::chain<ds::embedding<50, 32>, ds::deepseek_sparse_attention<small>,
                       ds::called<"head", ds::linear<32, 50>>> {};

// Multiplications of one layer for one new token: attention over so many rows, and all scores.
constexpr double attention_cost(double rows) {
  return rows * 128 * (576 + 512);
}
constexpr double indexer_cost(double keys) {
  return keys * 64 * 128;
}

int main() {
  using cache = ds::sparse_cache<ds::bf16, ds::host, v3_2>;
  std::printf("V3.2, fp8 rows: %d bytes a token and layer\n",
              static_cast<int>(cache::bytes_per_token()));
  for (const double keys : {2048.0, 32768.0, 131072.0}) {
    std::printf("%6.0f tokens: dense %5.0f million, sparse %3.0f + %4.0f for the indexer\n", keys,
                attention_cost(keys) / 1e6, attention_cost(2048) / 1e6, indexer_cost(keys) / 1e6);
  }

  const ds::cpu cpu{{.threads = 2}};
  const ds::model<net, float, ds::cpu> m(cpu, ds::scaled_init{.gain = 1, .seed = 3});
  std::int32_t text[24];
  for (std::int32_t i = 0; i < 24; ++i) text[i] = i * 7 % 50;
  const ds::view<const std::int32_t, ds::host, ds::dyn> tokens(text, {24});
  const auto whole = m(cpu, tokens);
  auto decoder = m.decoder(cpu, 24);
  bool same = true;
  for (ds::index_t t = 0; t < 24; ++t) {
    const auto y = m.decode(cpu, ds::rows(tokens, t, 1), decoder);
    for (ds::index_t i = 0; i < 50; ++i) same = same && y(0, i) == whole.view()(t, i);
  }
  std::printf("token by token gives the bits of the whole: %s\n", same ? "yes" : "no");

  // The ops alone: which keys do three queries select, among 12?
  ds::tensor<float, ds::host, 3, 2, 4> q;
  ds::tensor<float, ds::host, 12, 4> k;
  ds::tensor<float, ds::host, 3, 2> w;
  ds::tensor<std::int32_t, ds::host, 3, 4> ids;
  for (ds::index_t i = 0; i < q.size(); ++i) q.data()[i] = std::sin(static_cast<float>(i + 1));
  for (ds::index_t i = 0; i < k.size(); ++i) k.data()[i] = std::cos(static_cast<float>(3 * i));
  for (ds::index_t i = 0; i < w.size(); ++i) w.data()[i] = 1;
  ds::ops::indexer_top_k(cpu, ds::indexer_inputs{q, k, w}, ids,
                         ds::attention_spec<ds::causal>{.scale = 1},
                         ds::selection_order::by_position);
  const ds::index_set seen(ids.view(), ds::index_order::ascending);
  std::printf("%s", ds::draw(seen, 3, 12).c_str());
}
