// SPDX-License-Identifier: Apache-2.0
// compression: a student of half the layers and a quarter of the experts' width, alone and taught.
#include "compression/nets.hpp"

namespace compression {

namespace {

using student_model = ds::model<student, float, ds::cpu>;

ds::warmup_cosine schedule(const material& m) {
  return {.peak = 4e-3, .floor = 4e-4, .warmup = m.s.steps / 20 + 1, .total = m.s.steps + 1};
}
table_row taught(const material& m, const model& teacher, double hard, const char* name) {
  student_model of(m.b, ds::scaled_init{.seed = m.s.seed});
  ds::trainer trainer(m.b, of, ds::adamw{.beta2 = 0.98}, schedule(m), {},
                      ds::distilled_loss{.temperature = 2, .hard = hard});
  demo::batch batch;
  for (ds::index_t i = 0; i < m.s.steps; ++i) {
    demo::draw_batch(m.text.train, m.s.seed, static_cast<std::uint32_t>(i), 4, batch);
    const auto scores = teacher(m.b, batch.input_view(), {.sequences = batch.sequences()});
    trainer.micro_step(batch.input_view(), ds::distillation_targets{scores, batch.target_view()},
                       batch.sequences());
  }
  const double b = bits(m, of);
  return {name, bytes_of(of), b, b};
}

}  // namespace

std::vector<table_row> teaching(const material& m, const model& base) {
  student_model alone(m.b, ds::scaled_init{.seed = m.s.seed});
  train(m, alone);
  const double b = bits(m, alone);
  return {{"student alone", bytes_of(alone), b, b},
          taught(m, base, 0.5, "student, half taught (T = 2)"),
          taught(m, base, 0.0, "student, only taught (T = 2)")};
}

}  // namespace compression
