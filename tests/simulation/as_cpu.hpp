// SPDX-License-Identifier: Apache-2.0
// Included in place of every header of backend/cpu by the programs of this folder: their `ds::cpu`
// is a device, so the tests of ops and layers meet the kernels of backend/cuda with the same cases,
// oracles, tolerances, poison and errors. Compiled as C++ the device is simulated; compiled as CUDA
// it is the GPU, over memory that both see (managed_cpu.cuh).
#pragma once

#if defined(__CUDACC__)
#include "simulation/managed_cpu.cuh"
#else
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"

#include "simulation/device.hpp"

namespace deepseek {

struct cpu_config {
  int threads = 1;  // without meaning here
};

struct cpu : simulation::host_device {
  explicit cpu(cpu_config config = {}, simulation::library which = simulation::library::absent)
      : simulation::host_device(which), threads_(config.threads) {}
  int threads() const { return threads_; }

 private:
  int threads_;
};
static_assert(DeviceBackend<cpu> && Block<simulation::block>);

}  // namespace deepseek
#endif

namespace deepseek::simd {
inline constexpr bool has_dot_pairs = false;
inline constexpr bool has_fma = true;  // what tests ask of the cpu's registers
}  // namespace deepseek::simd
namespace deepseek::cpu_attention {
inline constexpr bool multiplies_tiles = false;
}  // namespace deepseek::cpu_attention
