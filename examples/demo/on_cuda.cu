// SPDX-License-Identifier: Apache-2.0
#include "on_cuda.hpp"

#include <deepseek/cuda.cuh>

#include "batches.hpp"

namespace demo {

void train_on_cuda(const training_settings& settings, const documents& text, host_parameters& p,
                   const std::function<void(const ds::train_result&)>& note) {
  const ds::cuda gpu;
  ds::model<net, float, ds::cuda> m(gpu);
  ds::transfer_all(p, m.parameters());
  ds::trainer train(gpu, m, optimizer_rule(), learning_rate(settings), trainer_settings(settings));
  batch work;
  for (ds::index_t step = 0; step < settings.steps; ++step) {
    draw_batch(text, settings.seed, static_cast<std::uint32_t>(step), settings.windows, work);
    const auto ids = ds::in_memory<ds::device>(work.input_view());
    const auto targets = ds::in_memory<ds::device>(work.target_view());
    const auto offsets = ds::in_memory<ds::device>(work.sequences());
    note(*train.micro_step(ids, targets, offsets.view()));
  }
  ds::transfer_all(m.parameters(), p);
}

}  // namespace demo
