// SPDX-License-Identifier: Apache-2.0
// The device of as_cpu.hpp with warp groups, two multiprocessors, and a count of the tile maps that
// it made: a kernel of warp groups makes some, so a test sees whether one was taken. Compiled as
// CUDA it is the GPU, which decides itself.
#pragma once

#include "simulation/as_cpu.hpp"

namespace simulation {

#if defined(__CUDACC__)
using groups = deepseek::cpu;
inline constexpr bool simulated = false;
inline deepseek::index_t maps_made() {
  return 0;
}
#else
inline constexpr bool simulated = true;
struct groups : deepseek::cpu {
  static inline ds::index_t maps = 0;
  static bool has_warp_groups() { return true; }
  static ds::index_t multiprocessors() { return 2; }
  static ds::bulk::tile_map tile_map(const ds::bulk::tile_source& source) {
    ++maps;
    return simulated_map(source);
  }
};
inline ds::index_t maps_made() {
  return groups::maps;
}
#endif

}  // namespace simulation
