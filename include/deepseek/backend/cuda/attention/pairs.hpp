// SPDX-License-Identifier: Apache-2.0
// The two products of attention in plain multiply-adds, any types, strides and widths: 16 rows
// against 64 by 128 threads, widths in steps of 32 through shared memory. A thread has row rank / 8
// and every eighth of the 64. Sums run over the width, then over the 64, ascending.
#pragma once

#include "deepseek/backend/cuda/attention/tiles.hpp"

namespace deepseek::cuda_attention {

inline constexpr int few = 16, many = key_tile, pair_threads = 128;
inline constexpr int row_lanes = pair_threads / few, row_each = many / row_lanes;
inline constexpr int width_step = 32, width_pitch = width_step + 1;

// What every kernel of pairs keeps in shared memory beside its sums.
template <class A>
struct pair_room {
  A staged[(few + many) * width_pitch];
  A weights[few * many], more_weights[few * many];
  A scales[few];
  std::uint64_t bits[many];     // of a row (the first 16), or of one of the 64
  std::uint32_t columns[many];  // which of the 16 rows use it
};

// sums[i] = few_at(row, .) . many_at(lane + 8 i, .)
template <class A, class Block, class Few, class Many>
DEEPSEEK_HOST_DEVICE void pair_products(const Block& block, pair_room<A>& room, index_t width,
                                        const Few& few_at, const Many& many_at,
                                        A (&sums)[row_each]) {
  const int row = block.rank() / row_lanes, lane = block.rank() % row_lanes;
  for (int i = 0; i < row_each; ++i) sums[i] = 0;
  for (index_t c0 = 0; c0 < width; c0 += width_step) {
    block.sync();  // what stood there has been read
    for (int i = block.rank(); i < (few + many) * width_step; i += pair_threads) {
      const int r = i / width_step, c = i % width_step;
      A x = 0;
      if (c0 + c < width) x = r < few ? few_at(r, c0 + c) : many_at(r - few, c0 + c);
      room.staged[r * width_pitch + c] = x;
    }
    block.sync();
    const int count = width - c0 < width_step ? static_cast<int>(width - c0) : width_step;
    const A* const a = room.staged + row * width_pitch;
    const A* const b = room.staged + (few + lane) * width_pitch;
    for (int c = 0; c < count; ++c) {
      for (int i = 0; i < row_each; ++i) sums[i] += a[c] * b[i * row_lanes * width_pitch + c];
    }
  }
}

// sums[r][c] += weights[r][j] value(j, c) for the pairs that room.columns has, j ascending; each
// thread has columns of its own. What is not visible is neither multiplied nor read.
template <class A, class Block, class Value>
DEEPSEEK_HOST_DEVICE void add_columns(const Block& block, const pair_room<A>& room,
                                      const A* weights, index_t width, const Value& value,
                                      A* sums) {
  constexpr std::uint32_t all = (1U << few) - 1;
  for (index_t c = block.rank(); c < width; c += pair_threads) {
    A own[few];
    for (int r = 0; r < few; ++r) own[r] = sums[r * width + c];
    for (int j = 0; j < many; ++j) {
      const std::uint32_t rows = room.columns[j];
      if (rows == 0) continue;
      const A x = value(j, c);
      for (int r = 0; r < few; ++r) {
        if (rows == all || (rows >> r & 1) != 0) own[r] += weights[r * many + j] * x;
      }
    }
    for (int r = 0; r < few; ++r) sums[r * width + c] = own[r];
  }
}

// f(r, c) for the elements of 16 rows of `width`: a thread's are those it has in add_columns.
template <class Block, class F>
DEEPSEEK_HOST_DEVICE void for_own_columns(const Block& block, index_t width, const F& f) {
  for (index_t c = block.rank(); c < width; c += pair_threads) {
    for (int r = 0; r < few; ++r) f(r, c);
  }
}

// Combines the value of the eight threads of a row.
template <class Block, class X, class Op>
DEEPSEEK_HOST_DEVICE X combine_row(const Block& block, X x, const Op& op) {
  for (int bit = row_lanes / 2; bit > 0; bit /= 2) x = op(x, block.shuffle_xor(x, bit));
  return x;
}

// room.columns from room.bits of the 16 rows. Between two syncs of the caller.
template <class A, class Block>
DEEPSEEK_HOST_DEVICE void turn_bits(const Block& block, pair_room<A>& room) {
  for (int j = block.rank(); j < many; j += pair_threads) {
    std::uint32_t rows = 0;
    for (int r = 0; r < few; ++r) rows |= static_cast<std::uint32_t>(room.bits[r] >> j & 1) << r;
    room.columns[j] = rows;
  }
}

}  // namespace deepseek::cuda_attention
