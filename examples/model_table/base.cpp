// SPDX-License-Identifier: Apache-2.0
// The row that formats and pruning are compared with: attention to all keys before, in fp32.
#include "measure.hpp"

namespace model_table {

std::unique_ptr<base_model> trained_base(const run& r, figures& out) {
  auto m = std::make_unique<base_model>(r.backend, ds::scaled_init{.gain = 1, .seed = 1});
  const double speed = train(r, *m);
  out = measured(r, *m);
  out.training = speed;
  return m;
}
figures measured_base(const run& r, const base_model& m) {
  return measured(r, m);
}

}  // namespace model_table
