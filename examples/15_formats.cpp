// SPDX-License-Identifier: Apache-2.0
// One trained model in every format: what each costs in bytes and in loss, and layer by layer what
// it does to weights and outputs (on standard error). The call is the same for all.
#include "copy_task.hpp"

#include <cstdio>
#include <iostream>

namespace ds = deepseek;

struct subject {
  ds::cpu cpu{{.threads = 2}};
  copy_task::model m{cpu, ds::scaled_init{.seed = 1}};
  copy_task::model::calibration_type seen = m.calibration();
  double plain = 0;

  subject() {
    copy_task::train(cpu, m, 200);
    for (std::uint32_t i = 0; i < 4; ++i) {
      const copy_task::batch typical(2'000'000 + i);
      m.observe(cpu, typical.token_view(), seen, {.sequences = typical.offset_view()});
    }
    plain = copy_task::loss(cpu, m);
  }

  template <class Model>
  void print(const char* name, const Model& small) const {
    const double loss = copy_task::loss(cpu, small);
    const double share = static_cast<double>(ds::parameter_bytes(small.parameters())) /
                         static_cast<double>(ds::parameter_bytes(m.parameters()));
    std::printf("%-16s bytes %.2f  keeps it: %s\n", name, share, loss < 0.1 ? "yes" : "no");
    std::cerr << name << ", loss " << plain << " -> " << loss << '\n'
              << ds::report_quantization(cpu, m, seen, small) << '\n';
  }
  template <class Format>
  void try_format() const {
    print(Format::name, ds::quantize<Format>(cpu, m, seen));
  }
};

int main() {
  const subject s;
  s.try_format<ds::bf16_weights>();
  s.try_format<ds::int8_channels>();
  s.try_format<ds::w8a8>();
  s.try_format<ds::w8a8_least_error>();
  s.try_format<ds::smoothed<ds::w8a8>>();
  s.try_format<ds::fp8_blocks>();
  s.try_format<ds::int4_groups<32>>();
  s.try_format<ds::int4_symmetric<32>>();
  s.try_format<ds::mxfp4>();

  // 4 bits in the experts only; attention and head stay in float.
  using experts = ds::moe<copy_task::experts>;
  s.print("experts in int4",
          ds::quantize<ds::only<ds::int4_groups<32>, experts>>(s.cpu, s.m, s.seen));

  // Trained for 4 bits, then stored in them: the numbers that were trained.
  auto fake = ds::fake_quantize<ds::int4_symmetric<32>>(s.cpu, s.m);
  copy_task::train(s.cpu, fake, 50);
  const auto real = ds::quantize<ds::int4_symmetric<32>>(s.cpu, fake);
  s.print("trained for int4", real);
  std::printf("the same numbers: %s\n",
              copy_task::loss(s.cpu, real) == copy_task::loss(s.cpu, fake) ? "yes" : "no");
}
