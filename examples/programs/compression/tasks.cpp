// SPDX-License-Identifier: Apache-2.0
// compression: a model that knows code learns prose, freely and under elastic weights.
#include "compression/nets.hpp"

#include <cstdio>

namespace compression {

namespace {

// 64 bytes are one sequence of the old task.
void observe_task(const material& m, const model& of, ds::elastic_memory<model>& memory) {
  constexpr ds::index_t length = 64;
  demo::batch batch;
  for (std::uint32_t i = 0; i < 4; ++i) {
    demo::draw_batch(m.text.train, m.s.seed, again + i, 4, batch);
    const auto n = static_cast<ds::index_t>(batch.inputs.size());
    for (ds::index_t t = 0; t + length <= n; t += length) {
      memory.observe(m.b, of, ds::rows(batch.input_view(), t, length),
                     ds::rows(batch.target_view(), t, length));
    }
  }
  memory.consolidate(of);
}
task_row learn(const material& code, const material& prose, const model& base, double lambda) {
  model of(code.b);
  of.parameters() = base.parameters();
  ds::elastic_memory memory(code.b, of, {.lambda = lambda});
  observe_task(code, of, memory);
  ds::trainer trainer(code.b, of, ds::adamw{.beta2 = 0.98, .weight_decay = 0},
                      ds::constant_rate{.peak = 2e-3});
  if (lambda > 0) trainer.with_penalty(memory.penalty(code.b));
  steps_of(prose, trainer, 2 * prose.s.more, 0);
  char name[64];
  std::snprintf(name, sizeof name,
                lambda > 0 ? "prose learned, lambda = %g" : "prose learned freely", lambda);
  return {name, bits(code, of), bits(prose, of)};
}

}  // namespace

std::vector<task_row> tasks(const material& code, const material& prose) {
  const model base = trained(code);
  return {{"code only", bits(code, base), bits(prose, base)},
          learn(code, prose, base, 0),
          learn(code, prose, base, 100),
          learn(code, prose, base, 1000),
          learn(code, prose, base, 10000)};
}

}  // namespace compression
