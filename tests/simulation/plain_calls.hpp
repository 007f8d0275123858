// SPDX-License-Identifier: Apache-2.0
// Sorts and sums of a device's library by the standard library. What they write was poison before.
#pragma once

#include "deepseek/backend/cuda/device_calls.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace simulation {

inline void run_plainly(const deepseek::sums_before& c) {
  std::exclusive_scan(c.numbers, c.numbers + c.n, c.numbers, std::int32_t{0});
}
inline void run_plainly(const deepseek::sorted_pairs& c) {
  std::vector<deepseek::index_t> order(static_cast<std::size_t>(c.n));
  std::iota(order.begin(), order.end(), deepseek::index_t{0});
  const std::uint64_t mask = (std::uint64_t{1} << c.bits) - 1;
  std::stable_sort(order.begin(), order.end(), [&](deepseek::index_t a, deepseek::index_t b) {
    return (c.keys[a] & mask) < (c.keys[b] & mask);
  });
  for (deepseek::index_t i = 0; i < c.n; ++i) {
    c.to_keys[i] = c.keys[order[static_cast<std::size_t>(i)]];
    c.to_values[i] = c.values[order[static_cast<std::size_t>(i)]];
  }
}

}  // namespace simulation
