// SPDX-License-Identifier: Apache-2.0
// compression: neurons, heads and experts removed into smaller types, by weights and by activity.
#include "compression/nets.hpp"

namespace compression {

namespace {

template <class Smaller>
table_row measure(const material& m, ds::model<Smaller, float, ds::cpu> of, const char* name) {
  table_row row{name, bytes_of(of), bits(m, of), 0};
  train_again(m, of);
  row.after = bits(m, of);
  return row;
}

}  // namespace

std::vector<table_row> units(const material& m, const model& base) {
  ds::activity_of<net> seen;
  demo::batch batch;
  demo::draw_batch(m.text.train, m.s.seed, again - 1, 8, batch);
  ds::observe_activity(m.b, base, batch.input_view(), seen, {.sequences = batch.sequences()});
  return {measure(m, ds::prune<narrow>(m.b, base), "half of the neurons, by weights"),
          measure(m, ds::prune<narrow>(m.b, base, seen), "half of the neurons, by activity"),
          measure(m, ds::prune<headless>(m.b, base), "half of the heads, by weights"),
          measure(m, ds::prune<headless>(m.b, base, seen), "half of the heads, by activity"),
          measure(m, ds::prune<few>(m.b, base), "one of four experts, by weights")};
}

}  // namespace compression
