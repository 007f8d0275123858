// SPDX-License-Identifier: Apache-2.0
// How every row is trained and measured: the same text, batches, seed and number of steps.
#pragma once

#include "table.hpp"

#include "demo/evaluate.hpp"
#include "demo/speed.hpp"

namespace model_table {

template <class Model>
figures measured(const run& r, const Model& m) {
  const auto speed = demo::measure_speed(r.backend, m, r.text.held.bytes);
  return {.bits_per_byte = demo::bits_per_byte(r.backend, m, r.text.held, r.stride),
          .bytes = ds::parameter_bytes(m.parameters()),
          .prefill = speed.prefill,
          .decode = speed.decode};
}

// Tokens per second of training.
template <class Model>
double train(const run& r, Model& m) {
  ds::trainer trainer(r.backend, m, ds::adamw{.beta2 = 0.98, .weight_decay = 0.1},
                      ds::warmup_cosine{.peak = 4e-3,
                                        .floor = 2e-4,
                                        .warmup = r.steps / 20 + 1,
                                        .total = r.steps + r.steps / 20 + 1});
  demo::batch work;
  ds::index_t tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  for (ds::index_t step = 0; step < r.steps; ++step) {
    demo::draw_batch(r.text.train, 1, static_cast<std::uint32_t>(step), 8, work);
    tokens += trainer.micro_step(work.input_view(), work.target_view(), work.sequences())->tokens;
  }
  return static_cast<double>(tokens) / demo::seconds_since(start);
}

template <class Attention>
figures measured_attention(const run& r) {
  ds::model<net<Attention>, float, ds::cpu> m(r.backend, ds::scaled_init{.gain = 1, .seed = 1});
  const double speed = train(r, m);
  figures f = measured(r, m);
  f.training = speed;
  return f;
}

template <class Format>
figures measured_format(const run& r, const base_model& m) {
  auto seen = m.calibration();
  demo::batch work;
  for (std::uint32_t i = 0; i < 4; ++i) {
    demo::draw_batch(r.text.train, 12345, i, 16, work);
    m.observe(r.backend, work.input_view(), seen, {.sequences = work.sequences()});
  }
  return measured(r, ds::quantize<Format>(r.backend, m, seen));
}

}  // namespace model_table
