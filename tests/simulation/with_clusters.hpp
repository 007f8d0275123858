// SPDX-License-Identifier: Apache-2.0
// The device of as_cpu.hpp with clusters of up to 8 blocks. Compiled as CUDA it is the GPU, which
// decides itself.
#pragma once

#include "simulation/as_cpu.hpp"

namespace simulation {

#if defined(__CUDACC__)
using clusters = deepseek::cpu;
inline constexpr bool counts_clusters = false;
inline deepseek::index_t launched(const clusters&) {
  return 0;
}
#else
inline constexpr bool counts_clusters = true;
struct clusters : deepseek::cpu {
  static int largest_cluster() { return 8; }
};
// Launches of clusters so far.
inline deepseek::index_t launched(const clusters& b) {
  return b.launches_of_clusters();
}
#endif

}  // namespace simulation
