// SPDX-License-Identifier: Apache-2.0
// Speculative decoding: a net that also predicts the token after the next drafts with it. The model
// looks at a token and a draft in one call; what it would not have written itself it replaces, so
// the text is the same, in fewer calls. Here the text counts up: 0 1 2 ... 9 0 1 ...
#include <deepseek/deepseek.hpp>
#include <deepseek/serve.hpp>

#include <cstdio>
#include <vector>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 32, .heads = 4};
using block =
    ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<32, 64>>;
struct net : ds::with_mtp<ds::embedding<10, 32>, ds::repeat<2, block>, ds::mtp_layer<block>,
                          ds::called<"head", ds::linear<32, 10>>> {};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

}  // namespace

int main() {
  const ds::cpu cpu{{.threads = 2}};
  ds::model<net, float, ds::cpu> m(cpu, ds::scaled_init{.seed = 1});

  std::int32_t text[24];
  for (std::int32_t i = 0; i < 24; ++i) text[i] = i % 10;
  ds::trainer trainer(cpu, m, ds::adamw{},
                      ds::warmup_cosine{.peak = 1e-2, .warmup = 5, .total = 60});
  ds::train_result last;
  for (int step = 0; step < 60; ++step) {
    last = *trainer.micro_step(ids(text, {23}), ids(text + 1, {23}));
  }
  std::printf("learned the next token: %s, the one after it: %s\n", last.loss < 0.1 ? "yes" : "no",
              last.draft_loss < 0.1 ? "yes" : "no");

  std::vector<std::int32_t> plain, drafted;
  const ds::sampler_config greedy{.temperature = 0};
  ds::generate(cpu, m, ids(text, {3}), {.tokens = 20, .sampling = greedy},
               [&](std::int32_t token) { plain.push_back(token); });
  const auto done = ds::generate_speculative(cpu, m, ids(text, {3}),
                                             {.tokens = 20, .drafts = 2, .sampling = greedy},
                                             [&](std::int32_t token) { drafted.push_back(token); });

  std::printf("continues 0 1 2:");
  for (const std::int32_t token : drafted) std::printf(" %d", token);
  std::printf("\nthe same text: %s\n", drafted == plain ? "yes" : "no");
  std::printf("accepted: %.0f %% of %lld drafts; %lld calls of the model after the prompt\n",
              100 * done.acceptance(), static_cast<long long>(done.drafted),
              static_cast<long long>(done.model_calls));
}
