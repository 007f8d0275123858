// SPDX-License-Identifier: Apache-2.0
// Experts that are any layer. Of four experts of a token two are attention and two are feed-forward
// networks; a noisy gate chooses two of them, an expert takes at most 1.5 times its equal share of
// a step's rows, and what finds no room goes to the next best expert. It learns the task of example
// 05. An attention expert sees those tokens of the sequence that chose it.
#include "copy_task.hpp"

#include <algorithm>
#include <cstdio>

namespace ds = deepseek;

inline constexpr ds::moe_config mixture{
    .dim = 32,
    .routed = 4,
    .active = 2,
    .importance = 0.02,
    .z_loss = 1e-3,
    .capacity = {.factor = 1.5, .then = ds::overflow::rerouted}};
using heads = ds::multi_head_attention<copy_task::heads, ds::causal>;
using feed_forward = ds::swiglu<32, 32>;
using mixed = ds::moe<mixture, ds::noisy_top_k<ds::noisy_config{.load = 0.02}>,
                      ds::expert_list<heads, heads, feed_forward, feed_forward>>;
struct net : ds::chain<ds::embedding<copy_task::vocabulary, 32>,
                       ds::repeat<2, ds::transformer_block<heads, mixed>>, ds::rms_norm<32>,
                       ds::called<"head", ds::linear<32, copy_task::vocabulary>>> {};

int main() {
  const ds::cpu cpu{{.threads = 2}};
  ds::model<net, float, ds::cpu> m(cpu, ds::scaled_init{.seed = 1});
  const ds::index_t tokens = copy_task::sequences * (copy_task::length - 1);
  std::printf("rows an expert takes of %lld tokens: %lld\n", static_cast<long long>(tokens),
              static_cast<long long>(mixture.capacity.of(tokens, mixture.active, mixture.routed)));
  ds::visit(
      [](const ds::tensor_name& at, const auto& t) {
        if (at.path.find("layers.0.ffn.") == 0) {
          std::printf("%-34s %s\n", at.path.c_str(), ds::shape_string(t.view()).c_str());
        }
      },
      m.parameters());

  copy_task::train(cpu, m, 300);
  const double after = copy_task::loss(cpu, m);
  std::printf("learned: %s\n", after < 0.1 ? "yes" : "no");

  // What each expert was asked for, as bars (on the error stream: figures differ between machines).
  std::fprintf(stderr, "loss %.4f\n%s", after,
               ds::load_histogram(m.parameters(), {.width = 32}).c_str());
  float busiest = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (!at.path.ends_with("gate.load")) return;
        for (ds::index_t e = 0; e < t.size(); ++e) {
          busiest = std::max(busiest, static_cast<float>(t.data()[e]));
        }
      },
      m.parameters());
  std::printf("no expert was asked for more than 1.5 times its share: %s\n",
              busiest < 1.5F / 4 ? "yes" : "no");
}
