// SPDX-License-Identifier: Apache-2.0
// A trained model in 8-bit integers: calibrate on typical inputs, quantize, and go on as before.
// The result is another type; nothing else changes.
#include "copy_task.hpp"

#include <cstdio>

namespace ds = deepseek;

int main() {
  const ds::cpu cpu{{.threads = 2}};
  copy_task::model m(cpu, ds::scaled_init{.seed = 1});
  copy_task::train(cpu, m, 200);

  auto observed = m.calibration();
  for (std::uint32_t i = 0; i < 4; ++i) {
    const copy_task::batch typical(2'000'000 + i);
    m.observe(cpu, typical.token_view(), observed, {.sequences = typical.offset_view()});
  }
  const auto small = ds::quantize<ds::w8a8>(cpu, m, observed);

  const double plain = copy_task::loss(cpu, m), quantized = copy_task::loss(cpu, small);
  const double share = static_cast<double>(ds::parameter_bytes(small.parameters())) /
                       static_cast<double>(ds::parameter_bytes(m.parameters()));
  std::printf("bytes: %.2f of the float model\n", share);
  std::printf("float32 learned: %s\n", plain < 0.1 ? "yes" : "no");
  std::printf("int8 keeps it: %s\n", quantized < plain + 0.02 ? "yes" : "no");
  std::fprintf(stderr, "loss %.5f -> %.5f\n", plain, quantized);
}
