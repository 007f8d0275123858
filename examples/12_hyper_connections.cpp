// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V4's parts in small: four residual streams through every block (hyper-connections), and
// attention over a window of tokens and over compressed entries of four tokens, with sinks. It
// learns the task of example 05, and decoding token by token gives the bits of one run.
#include "copy_task.hpp"

#include <cstdio>
#include <cstring>

namespace ds = deepseek;

inline constexpr ds::compressed_attention_config heads{.dim = 32,
                                                       .heads = 4,
                                                       .head_dim = 16,
                                                       .rope_dim = 8,
                                                       .q_rank = 24,
                                                       .groups = 2,
                                                       .group_rank = 16,
                                                       .window = 8,
                                                       .ratio = 4,
                                                       .windows = ds::overlap::present};
using block = ds::hyper_block<ds::compressed_attention<heads>, ds::swiglu<32, 64>>;
struct net : ds::chain<ds::embedding<copy_task::vocabulary, 32>, ds::hyper_streams<32>,
                       ds::repeat<2, block>, ds::hyper_head<32>, ds::rms_norm<32>,
                       ds::called<"head", ds::linear<32, copy_task::vocabulary>>> {};

int main() {
  const ds::cpu cpu{{.threads = 2}};
  ds::model<net, float, ds::cpu> m(cpu, ds::scaled_init{.seed = 1});
  ds::visit(
      [](const ds::tensor_name& at, const auto& t) {
        if (at.path.find("layers.0.hc_") == 0 || at.path.find("layers.0.attn.compressor") == 0) {
          std::printf("%-38s %s\n", at.path.c_str(), ds::shape_string(t.view()).c_str());
        }
      },
      m.parameters());

  copy_task::train(cpu, m, 300);
  const double after = copy_task::loss(cpu, m);
  std::printf("learned: %s\n", after < 0.1 ? "yes" : "no");
  std::fprintf(stderr, "loss %.4f\n", after);

  const copy_task::batch unseen(1'000'000);
  const copy_task::ids tokens(unseen.tokens.data(), {15});
  const auto full = m(cpu, tokens);
  auto decoder = m.decoder(cpu, 15);
  bool same = true;
  for (ds::index_t i = 0; i < 15; ++i) {
    const auto y = m.decode(cpu, ds::rows(tokens, i, 1), decoder);
    same = same && std::memcmp(y.data(), full.data() + i * copy_task::vocabulary,
                               sizeof(float) * copy_task::vocabulary) == 0;
  }
  std::printf("token by token: %s\n", same ? "the same bits" : "other bits");
}
