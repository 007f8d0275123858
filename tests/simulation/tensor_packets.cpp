// SPDX-License-Identifier: Apache-2.0
// Tensor-core products of experts and of stored weights: the packets that lanes load are the
// fragments of the instructions (every step of k once, in both factors alike; every output once);
// codes in 16 bits are exact; both kernels, any number of warps along k, and a row alone give the
// same bits; the weight gradient against plain sums; what cannot run there says so.
#include "simulation/as_cpu.hpp"

#include "support/seed.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
namespace tensor = ds::cuda_tensor;
using ds::index_t;

namespace {

// A lane's element i of word w is column c of its instruction's factor: the step of k that step_of
// says must be the one that stands there in the packet.
constexpr bool packets_are_fragments() {
  for (int lane = 0; lane < 32; ++lane) {
    for (int s = 0; s < 2; ++s) {
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 2; ++i) {
          const int there = lane % 4 * 8 + 2 * (2 * s + half) + i;
          const auto a = ds::mma::a_place<ds::bf16>(lane, 2 * half, i);
          const auto b = ds::mma::b_place<ds::bf16>(lane, half, i);
          if (tensor::step_of(s, a.column) != there || tensor::step_of(s, b.row) != there) {
            return false;
          }
        }
      }
    }
  }
  return true;
}
constexpr bool every_step_once() {
  std::array<int, 32> met{};
  for (int s = 0; s < 2; ++s) {
    for (int c = 0; c < 16; ++c) ++met[static_cast<std::size_t>(tensor::step_of(s, c))];
  }
  for (const int times : met) {
    if (times != 1) return false;
  }
  return true;
}
constexpr bool every_output_once(int tiles) {
  std::array<int, 64> met{};
  for (int i = 0; i < tiles; ++i) {
    for (int r = 0; r < 16; ++r) ++met[static_cast<std::size_t>(tensor::output_of(tiles, i, r))];
  }
  for (int n = 0; n < 16 * tiles; ++n) {
    if (met[static_cast<std::size_t>(n)] != 1) return false;
  }
  return true;
}
static_assert(packets_are_fragments() && every_step_once());
static_assert(every_output_once(2) && every_output_once(4));

}  // namespace
