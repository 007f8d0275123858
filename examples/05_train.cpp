// SPDX-License-Identifier: Apache-2.0
// Training: a model learns to repeat what it saw. The second half of every sequence is its first
// half again; only attention can find it there. The same seed gives the same numbers each time.
#include "copy_task.hpp"

#include <cstdio>

namespace ds = deepseek;

int main() {
  const ds::cpu cpu{{.threads = 2}};
  copy_task::model m(cpu, ds::scaled_init{.seed = 1});
  std::printf("parameters: %lld\n", static_cast<long long>(ds::parameter_count(m.parameters())));

  const double before = copy_task::loss(cpu, m);
  const auto last = copy_task::train(cpu, m, 300);
  const double after = copy_task::loss(cpu, m);

  std::printf("steps: %lld\n", static_cast<long long>(last.step));
  std::printf("before: about as good as guessing: %s\n", before > 2.0 ? "yes" : "no");
  std::printf("after: learned: %s\n", after < 0.1 ? "yes" : "no");
  std::fprintf(stderr, "loss %.4f -> %.4f\n", before, after);
}
