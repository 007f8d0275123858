// SPDX-License-Identifier: Apache-2.0
// compression: single weights pruned, by magnitude, by activity, two of four; without and with
// training again under the mask.
#include "compression/nets.hpp"

namespace compression {

model trained(const material& m) {
  model base(m.b, ds::scaled_init{.seed = m.s.seed});
  train(m, base);
  return base;
}

namespace {

// Kept weights as floats and one bit a weight; for n of m the places of the kept ones.
double stored_bytes(const model& of, const ds::weight_masks& masks) {
  const double gone = static_cast<double>(masks.weights() - masks.kept());
  return bytes_of(of) - 4 * gone + static_cast<double>(masks.weights()) / 8;
}
table_row measure(const material& m, model of, const char* name, const ds::weight_masks& masks) {
  masks.apply(m.b, of.parameters());
  table_row row{name, stored_bytes(of, masks), bits(m, of), 0};
  ds::trainer trainer(m.b, of, ds::adamw{.beta2 = 0.98}, ds::constant_rate{.peak = 1e-3});
  trainer.after_step([&](auto& p) { masks.apply(m.b, p); });
  steps_of(m, trainer, m.s.more, again);
  row.after = bits(m, of);
  return row;
}
model copy_of(const material& m, const model& from) {
  model to(m.b);
  to.parameters() = from.parameters();
  return to;
}

}  // namespace

std::vector<table_row> weights(const material& m, const model& base) {
  auto same = copy_of(m, base);
  table_row whole{"as trained", bytes_of(base), bits(m, base), 0};
  train_again(m, same);
  whole.after = bits(m, same);
  ds::activity_of<net> seen;
  demo::batch batch;
  demo::draw_batch(m.text.train, m.s.seed, again - 1, 4, batch);
  ds::observe_activity(m.b, base, batch.input_view(), seen, {.sequences = batch.sequences()});
  const auto& p = base.parameters();
  return {whole,
          measure(m, copy_of(m, base), "50 % by magnitude", ds::magnitude_masks(p, 0.5)),
          measure(m, copy_of(m, base), "50 % by magnitude, each tensor",
                  ds::magnitude_masks(p, 0.5, ds::pruning_scope::tensor)),
          measure(m, copy_of(m, base), "50 % by activity", ds::activity_masks(p, seen, 0.5)),
          measure(m, copy_of(m, base), "2 of 4", ds::n_of_m_masks(m.b, p)),
          measure(m, copy_of(m, base), "80 % by magnitude", ds::magnitude_masks(p, 0.8))};
}

}  // namespace compression
