// SPDX-License-Identifier: Apache-2.0
// The nets that `compression` compares: the demo's kind of model in small, and what becomes of it;
// how they are trained and measured.
#pragma once

#include <deepseek/deepseek.hpp>

#include "../../demo/batches.hpp"
#include "../../demo/evaluate.hpp"

#include <string>
#include <vector>

namespace compression {

namespace ds = deepseek;

template <ds::index_t Heads, ds::index_t Routed, ds::index_t Hidden, ds::index_t Layers = 2>
struct shape {
  static constexpr ds::mla_config latent{
      .dim = 64, .heads = Heads, .kv_rank = 32, .nope_dim = 16, .rope_dim = 8, .v_dim = 16};
  static constexpr ds::moe_config experts{
      .dim = 64, .hidden = Hidden, .routed = Routed, .shared = 1, .active = 2};
  using layer = ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                      ds::moe<experts, ds::sigmoid_top_k>>;
  using net = ds::chain<ds::embedding<256, 64>, ds::repeat<Layers, layer>, ds::rms_norm<64>,
                        ds::called<"head", ds::linear<64, 256>>>;
};
struct net : shape<4, 4, 96>::net {};
struct narrow : shape<4, 4, 48>::net {};
struct headless : shape<2, 4, 96>::net {};
struct few : shape<4, 3, 96>::net {};
struct student : shape<2, 2, 32, 1>::net {};

using model = ds::model<net, float, ds::cpu>;

struct setting {
  ds::index_t steps = 400, more = 80;  // of training, of training again
  std::uint64_t seed = 1;
  std::size_t stride = 4;  // every so many-th held-out document is measured
};
struct table_row {
  std::string name;
  double bytes = 0, before = 0, after = 0;  // bits per byte without and with training again
};
struct material {
  const ds::cpu& b;
  const demo::corpus& text;
  setting s;
};

template <class Model>
double bits(const material& m, const Model& of) {
  return demo::bits_per_byte(m.b, of, m.text.held, m.s.stride);
}

// Steps of a trainer on text drawn from number `first` on.
template <class Trainer>
void steps_of(const material& m, Trainer& trainer, ds::index_t steps, std::uint32_t first) {
  demo::batch batch;
  for (ds::index_t i = 0; i < steps; ++i) {
    demo::draw_batch(m.text.train, m.s.seed, first + static_cast<std::uint32_t>(i), 4, batch);
    trainer.micro_step(batch.input_view(), batch.target_view(), batch.sequences());
  }
}
inline constexpr std::uint32_t again = 1'000'000;  // batches for training again

template <class Model>
void train(const material& m, Model& of) {
  ds::trainer trainer(
      m.b, of, ds::adamw{.beta2 = 0.98},
      ds::warmup_cosine{
          .peak = 4e-3, .floor = 4e-4, .warmup = m.s.steps / 20 + 1, .total = m.s.steps + 1});
  steps_of(m, trainer, m.s.steps, 0);
}
template <class Model>
void train_again(const material& m, Model& of) {
  ds::trainer trainer(m.b, of, ds::adamw{.beta2 = 0.98}, ds::constant_rate{.peak = 1e-3});
  steps_of(m, trainer, m.s.more, again);
}
template <class Model>
double bytes_of(const Model& of) {
  return static_cast<double>(ds::parameter_bytes(of.parameters()));
}

model trained(const material& m);
std::vector<table_row> weights(const material& m, const model& base);
std::vector<table_row> units(const material& m, const model& base);
std::vector<table_row> teaching(const material& m, const model& base);

struct task_row {
  std::string name;
  double old_task = 0, new_task = 0;  // bits per byte after the new task was learned
};
std::vector<task_row> tasks(const material& code, const material& prose);

}  // namespace compression
