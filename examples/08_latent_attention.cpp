// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention: a cache keeps one latent and one rotated key part a token, whatever
// the number of heads. Two forms give the same numbers: naive forms the keys and values of every
// head, absorbed works on the latents. Which is cheaper depends on how many queries there are.
#include <deepseek/deepseek.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ds = deepseek;

// Attention of DeepSeek-V2-Lite, and what plain heads of the same sizes would keep.
inline constexpr ds::mla_config lite{
    .dim = 2048, .heads = 16, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128};
inline constexpr ds::attention_config heads{.dim = 2048, .heads = 16, .head_dim = 128};

template <class Layer>
constexpr ds::index_t cache_bytes = Layer::template state<ds::bf16, ds::host>::bytes_per_token();

// A small one to run.
inline constexpr ds::mla_config small{
    .dim = 32, .heads = 4, .kv_rank = 16, .nope_dim = 8, .rope_dim = 4, .v_dim = 8};
struct net : ds::chain<ds::embedding<50, 32>, ds::latent_attention<small, ds::causal>,
                       ds::called<"head", ds::linear<32, 50>>> {};

int main() {
  using mha = ds::multi_head_attention<heads, ds::causal>;
  using mla = ds::latent_attention<lite, ds::causal>;
  std::printf("cache of a layer, bf16: MHA %d bytes a token, MLA %d bytes a token\n",
              static_cast<int>(cache_bytes<mha>), static_cast<int>(cache_bytes<mla>));

  const char* const names[] = {"by cost", "naive", "absorbed"};
  for (const ds::index_t queries : {4096, 256, 1}) {
    const auto form = ds::cheaper_form(lite, queries, 4096);
    std::printf("%4d queries, 4096 keys: %s\n", static_cast<int>(queries),
                names[static_cast<int>(form)]);
  }

  const ds::cpu cpu{{.threads = 2}};
  const ds::model<net, double, ds::cpu> m(cpu, ds::scaled_init{.gain = 1, .seed = 3});
  const std::int32_t text[] = {7, 3, 42, 11, 7, 20, 5, 1};
  const ds::view<const std::int32_t, ds::host, ds::dyn> tokens(text, {8});
  const auto naive = m(cpu, tokens, {.latent = ds::latent_form::naive});
  const auto absorbed = m(cpu, tokens, {.latent = ds::latent_form::absorbed});

  // Five tokens at once, three one by one: the form changes in between.
  auto decoder = m.decoder(cpu, 8);
  m.decode(cpu, ds::rows(tokens, 0, 5), decoder);
  double far = 0, far_decoded = 0;
  for (ds::index_t i = 0; i < naive.size(); ++i) {
    far = std::max(far, std::fabs(naive.data()[i] - absorbed.data()[i]));
  }
  for (ds::index_t t = 5; t < 8; ++t) {
    const auto y = m.decode(cpu, ds::rows(tokens, t, 1), decoder);
    for (ds::index_t i = 0; i < 50; ++i) {
      far_decoded = std::max(far_decoded, std::fabs(y(0, i) - naive.view()(t, i)));
    }
  }
  std::printf("absorbed equals naive to 1e-12: %s\n", far < 1e-12 ? "yes" : "no");
  std::printf("decoded equals the full run to 1e-12: %s\n", far_decoded < 1e-12 ? "yes" : "no");
}
