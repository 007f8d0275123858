// SPDX-License-Identifier: Apache-2.0
// A trained model made smaller, and taught more without forgetting: weights pruned by size, neurons
// removed into a smaller type that the old model then teaches, a second task under elastic weights.
#include "copy_task.hpp"

#include <cstdio>

namespace ds = deepseek;
using copy_task::batch;

// The same net with half as many neurons in each expert.
inline constexpr ds::moe_config thin{.dim = 32, .hidden = 16, .routed = 4, .active = 2};
using thin_layer =
    ds::transformer_block<ds::multi_head_attention<copy_task::heads, ds::causal>, ds::moe<thin>>;
struct thin_net : ds::chain<ds::embedding<10, 32>, ds::repeat<2, thin_layer>, ds::rms_norm<32>,
                            ds::called<"head", ds::linear<32, 10>>> {};

copy_task::model trained(const ds::cpu& cpu) {
  copy_task::model m(cpu, ds::scaled_init{.seed = 1});
  copy_task::train(cpu, m, 200);
  return m;
}
double pruned(const ds::cpu& cpu, copy_task::model m) {
  const auto masks = ds::magnitude_masks(m.parameters(), 0.7);
  masks.apply(cpu, m.parameters());
  ds::trainer trainer(cpu, m, ds::adamw{}, ds::constant_rate{.peak = 1e-3});
  trainer.after_step([&](auto& p) { masks.apply(cpu, p); });  // what is zero stays zero
  for (std::uint32_t step = 0; step < 100; ++step) {
    const batch b(5000 + step);
    trainer.micro_step(b.token_view(), b.target_view(), b.offset_view());
  }
  return copy_task::loss(cpu, m);
}
double distilled(const ds::cpu& cpu, const copy_task::model& teacher) {
  auto student = ds::prune<thin_net>(cpu, teacher);
  ds::trainer trainer(cpu, student, ds::adamw{}, ds::constant_rate{.peak = 1e-3}, {},
                      ds::distilled_loss{.temperature = 2, .hard = 0.5});
  for (std::uint32_t step = 0; step < 60; ++step) {
    const batch b(7000 + step);
    const auto scores = teacher(cpu, b.token_view(), {.sequences = b.offset_view()});
    trainer.micro_step(b.token_view(), ds::distillation_targets{scores, b.target_view()},
                       b.offset_view());
  }
  return copy_task::loss(cpu, student);
}

// Digits below five; the second task has those above, and what follows is one more, round again.
batch digits(std::uint32_t number, bool second) {
  batch b(number);
  for (auto& t : b.tokens) t = t % 5 + (second ? 5 : 0);
  for (auto& t : b.targets) t = t < 0 ? t : second ? (t + 1) % 5 + 5 : t % 5;
  return b;
}
// What the old and the new task cost after the new one was learned.
std::array<double, 2> learn_more(const ds::cpu& cpu, copy_task::model m, double lambda) {
  const batch old = digits(9000, false), unseen = digits(9001, true);
  ds::elastic_memory memory(cpu, m, {.lambda = lambda});
  for (ds::index_t s = 0; s < copy_task::sequences; ++s) {
    memory.observe(cpu, m, ds::rows(old.token_view(), 15 * s, 15),
                   ds::rows(old.target_view(), 15 * s, 15));
  }
  memory.consolidate(m);
  ds::trainer trainer(cpu, m, ds::adamw{.weight_decay = 0}, ds::constant_rate{.peak = 2e-3});
  trainer.with_penalty(memory.penalty(cpu));
  for (std::uint32_t step = 0; step < 60; ++step) {
    const batch b = digits(8000 + step, true);
    trainer.micro_step(b.token_view(), b.target_view(), b.offset_view());
  }
  const auto cost = [&](const batch& t) {
    auto y = m(cpu, t.token_view(), {.sequences = t.offset_view()});
    const auto r = ds::token_loss{}(cpu, y.view(), t.target_view(), -100);
    return r.sum / static_cast<double>(r.counted);
  };
  return {cost(old), cost(unseen)};
}

int main() {
  const ds::cpu cpu{{.threads = 2}};
  const double masked = pruned(cpu, trained(cpu)), student = distilled(cpu, trained(cpu));
  const auto free = learn_more(cpu, trained(cpu), 0), held = learn_more(cpu, trained(cpu), 100);
  std::printf("it copies with 70 %% of its weights pruned: %s\n", masked < 0.1 ? "yes" : "no");
  std::printf("so does a student with half the neurons: %s\n", student < 0.1 ? "yes" : "no");
  std::printf("it learns a second task: %s\n", held[1] < 0.1 ? "yes" : "no");
  std::printf("and forgets the first less: %s\n", held[0] < 0.5 * free[0] ? "yes" : "no");
  std::fprintf(stderr, "%.4f %.4f, %.4f or %.4f\n", masked, student, free[0], held[0]);
}
