// SPDX-License-Identifier: Apache-2.0
// masked_grouped_gemm on warp groups (sm_90a): capacities above 32 rows an expert, counts around
// the edges of tiles; what a tile reads behind a count (NaN) stays there. On a GPU the device
// decides.
#include "ops/masked_grouped_gemm_case.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/masked_grouped_gemm.hpp"

using namespace masked_gemm_test;

TEST_CASE("masked_grouped_gemm on warp groups: counts around the edges of tiles") {
  const simulation::groups b;
  for (const bool turned : {false, true}) {
    for (const masked_case& c : {masked_case{40, 72, 264, {40, 0, 1, 33}, turned},
                                 masked_case{136, 128, 64, {136, 128, 0, 129, 63}, turned, 8}}) {
      const auto before = simulation::maps_made();
      check_forward<ds::bf16>(b, c);
      if (simulation::simulated) CHECK(simulation::maps_made() - before == 2);
      check_backward<ds::bf16>(b, c);
    }
  }
}
