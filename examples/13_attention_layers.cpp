// SPDX-License-Identifier: Apache-2.0
// Attention of several branches. The task of example 05 asks for the token 7 back; two layers that
// see a window of 4 reach 6 back and cannot learn it. With more branches they can: mixed attention
// adds blocks and random blocks with a gate for each token and head, native sparse attention adds
// summaries of earlier tokens and the blocks that these point at. Decoding gives the same bits.
#include "copy_task.hpp"

#include <cstdio>
#include <cstring>

namespace ds = deepseek;
using near = ds::sliding<4>;

using window = ds::mixed_attention<copy_task::heads, ds::fixed_weights<>, near>;
using mixed = ds::mixed_attention<copy_task::heads, ds::token_gates<>, near,
                                  ds::both<ds::causal, ds::block<8>>,
                                  ds::both<ds::causal, ds::random_blocks<4, 3>>>;
inline constexpr ds::nsa_config few{.attention = copy_task::heads,
                                    .stride = 2,
                                    .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
                                    .window = 4};
using native = ds::native_sparse_attention<few>;

template <class Attention>
struct net
    : ds::chain<ds::embedding<copy_task::vocabulary, 32>,
                ds::repeat<2, ds::transformer_block<Attention, ds::swiglu<32, 64>>>,
                ds::rms_norm<32>, ds::called<"head", ds::linear<32, copy_task::vocabulary>>> {};

template <class Attention>
void show(const ds::cpu& cpu, const char* name) {
  using model = ds::model<net<Attention>, float, ds::cpu>;
  model m(cpu, ds::scaled_init{.seed = 1});
  copy_task::train(cpu, m, 300);
  const double after = copy_task::loss(cpu, m);

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
  std::printf("%-24s learned: %-3s  token by token: %s\n", name, after < 0.5 ? "yes" : "no",
              same ? "the same bits" : "other bits");
  std::fprintf(stderr, "%s: loss %.4f\n", name, after);
}

int main() {
  const ds::cpu cpu{{.threads = 2}};
  show<window>(cpu, "window of 4");
  show<mixed>(cpu, "mixed, gated");
  show<native>(cpu, "native sparse");
}
