// SPDX-License-Identifier: Apache-2.0
// Sorts and sums over a whole array, of any length, that a device backend makes by a library (CUB
// on a GPU): b.sum_before(call), b.sort(call). In order with kernels, the same bits each run.
#pragma once

#include "deepseek/core/space.hpp"

#include <cstdint>

namespace deepseek {

// numbers[i] becomes the sum of numbers[0] .. numbers[i - 1].
struct sums_before {
  std::int32_t* numbers;
  index_t n;
};

// (keys[i], values[i]) in rising order of the keys' lowest `bits`; equal keys stay in their order.
struct sorted_pairs {
  const std::uint32_t* keys;
  const std::int32_t* values;
  std::uint32_t* to_keys;
  std::int32_t* to_values;
  index_t n;
  int bits;
};

// Bits of a number below n.
constexpr int bits_below(index_t n) {
  int bits = 0;
  while ((index_t{1} << bits) < n) ++bits;
  return bits;
}

}  // namespace deepseek
