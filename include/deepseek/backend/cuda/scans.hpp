// SPDX-License-Identifier: Apache-2.0
// What the lanes of a warp and the threads of a block know of each other's numbers: sums over the
// lanes or threads before one, lanes that hold the same number, bits counted.
#pragma once

#include "deepseek/backend/cuda/block.hpp"

namespace deepseek {

// The number of ones. (std::popcount is a host function to nvcc.)
DEEPSEEK_HOST_DEVICE constexpr int count_bits(std::uint32_t x) {
  x -= (x >> 1U) & 0x55555555U;
  x = (x & 0x33333333U) + ((x >> 2U) & 0x33333333U);
  x = (x + (x >> 4U)) & 0x0f0f0f0fU;
  return static_cast<int>((x * 0x01010101U) >> 24U);
}
// Bits 0 .. lane - 1.
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t lanes_before(int lane) {
  return (std::uint32_t{1} << static_cast<unsigned>(lane)) - 1U;
}

// The sum of x over the lanes before this one.
template <class Block, class X>
DEEPSEEK_HOST_DEVICE X sum_before_in_warp(const Block& block, X x) {
  X all = x;
  for (int step = 1; step < warp_size; step *= 2) {
    const X other = block.shuffle(all, block.lane() >= step ? block.lane() - step : 0);
    if (block.lane() >= step) all += other;
  }
  return all - x;
}

template <class X>
struct prefix_sum {
  X before, total;
};
// Over the threads of the block, in order of rank.
template <class Block, class X>
DEEPSEEK_HOST_DEVICE prefix_sum<X> sum_before(const Block& block, X x) {
  static_assert(sizeof(X) * warp_size <= reserved_bytes);
  const X in_warp = sum_before_in_warp(block, x);
  X* const places = reinterpret_cast<X*>(block.reserved());
  block.sync();  // what stood there has been read
  if (block.lane() == warp_size - 1) places[block.warp()] = in_warp + x;
  block.sync();
  prefix_sum<X> out{in_warp, 0};
  for (int w = 0; w < block.warps(); ++w) {
    if (w < block.warp()) out.before += places[w];
    out.total += places[w];
  }
  return out;
}

// The lanes that hold the same `value`, which is below 2^bits.
template <class Block>
DEEPSEEK_HOST_DEVICE std::uint32_t lanes_alike(const Block& block, std::uint32_t value, int bits) {
  std::uint32_t same = ~std::uint32_t{0};
  for (int i = 0; i < bits; ++i) {
    const bool one = ((value >> static_cast<unsigned>(i)) & 1U) != 0;
    const std::uint32_t with = block.ballot(one);
    same &= one ? with : ~with;
  }
  return same;
}

}  // namespace deepseek
