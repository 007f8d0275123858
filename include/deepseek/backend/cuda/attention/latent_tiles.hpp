// SPDX-License-Identifier: Apache-2.0
// What the kernel of wide shared rows (latent_forward.hpp) keeps in shared memory: how its rows are
// copied, where scores and weights stand, and its two products.
#pragma once

#include "deepseek/backend/cuda/attention/tensor_forward.hpp"

namespace deepseek::cuda_attention {

inline constexpr int latent_keys = 32;  // of a tile: half of a word of row_bits, or one a lane

// How a block is made: M x 16 rows; all warps share the scores, each has its own columns of o.
template <class T, int Width, int ValueWidth, int M>
struct latent_shape {
  using type = T;
  static constexpr int width = Width, value_width = ValueWidth, m = M, rows = 16 * M;
  static constexpr int warps = M == 1 ? 4 : 8;
  static constexpr int column_blocks = ValueWidth / warps / 8;  // of a warp
};

// Copies rows 0 .. Rows - 1 as copy_rows; eight threads a row, which find its address once.
template <int Rows, class Block, class T, int Width, class Row>
DEEPSEEK_HOST_DEVICE void copy_wide_rows(const Block& block, const row_tile<T, Width>& to,
                                         const T* any, const Row& row_at) {
  static_assert(Width % 64 == 0);
  for (int row = block.rank() / 8; row < Rows; row += block.size() / 8) {
    const T* const from = row_at(row);
    for (int unit = block.rank() % 8; unit < Width / 8; unit += 8) {
      mma::copy_async(block, to.unit(row, unit), from == nullptr ? any : from + unit * 8,
                      from != nullptr);
    }
  }
}

// Scores of `Rows` rows and 32 keys: two sums, each over one half of the width. Then, where a row's
// first sum was, its weights rounded to T, and beside them its notes. A row is 144 bytes, so that
// eight rows at one unit of 16 bytes are in different banks.
template <class T, int Rows>
struct score_room {
  static constexpr int pitch = latent_keys + 4;
  static constexpr std::size_t bytes = sizeof(float) * 2 * Rows * pitch;
  float* data;

  DEEPSEEK_HOST_DEVICE float* sums(int half, int row) const {
    return data + (half * Rows + row) * pitch;
  }
  DEEPSEEK_HOST_DEVICE T* weights(int row, int unit) const {
    return reinterpret_cast<T*>(sums(0, row)) + unit * 8;
  }
  // What o of the row is multiplied with, or o of ranges before (first) and of this one (second).
  DEEPSEEK_HOST_DEVICE float& first(int row) const { return sums(0, row)[latent_keys]; }
  DEEPSEEK_HOST_DEVICE float& second(int row) const { return sums(0, row)[latent_keys + 1]; }
  // Of the row, in all ranges of keys before this one.
  DEEPSEEK_HOST_DEVICE online& before(int row) const {
    return *reinterpret_cast<online*>(sums(1, row) + latent_keys);
  }
  // Which of the 32 keys the row sees.
  DEEPSEEK_HOST_DEVICE std::uint32_t& bits(int row) const {
    return *reinterpret_cast<std::uint32_t*>(sums(0, row) + latent_keys + 3);
  }
};

// q k^T of a tile: a warp has 16 keys, half of the width and 16 or 32 rows; the sums over each half
// go to the room.
template <class Shape, class Block, class T = typename Shape::type>
DEEPSEEK_HOST_DEVICE void multiply_halves(const Block& block, const row_tile<T, Shape::width>& q,
                                          const row_tile<T, Shape::width>& k,
                                          const score_room<T, Shape::rows>& room) {
  constexpr int blocks = Shape::m * 4 / Shape::warps, steps = Shape::width / 32;
  const int half = block.warp() & 1, key = (block.warp() >> 1 & 1) * 16;
  const int row = (block.warp() >> 2) * blocks * 16;
  sums<T, blocks, 2> c;
  multiply_rows(block, c, q, row, k, key, half * steps, half * steps + steps);
  DEEPSEEK_UNROLL
  for (int r = 0; r < 2 * blocks; ++r) {
    float* const to = room.sums(half, row + part_row(block.lane(), r / 2, r % 2)) + key;
    DEEPSEEK_UNROLL
    for (int n = 0; n < 2; ++n) {
      to[part_column(block.lane(), n, 0)] = c.part[r / 2][n].x[r % 2 * 2];
      to[part_column(block.lane(), n, 1)] = c.part[r / 2][n].x[r % 2 * 2 + 1];
    }
  }
}

// o += p v for the 8 N columns of the warp's values from unit `column` on. With Finite, what is not
// finite in v counts as zero.
template <bool Finite, int M, int N, class Block, class T, int Width>
DEEPSEEK_HOST_DEVICE void multiply_weights(const Block& block, sums<T, M, N>& o,
                                           const score_room<T, 16 * M>& p,
                                           const row_tile<T, Width>& v, int column) {
  const mma::corner at = mma::rows_first(block.lane());
  DEEPSEEK_UNROLL
  for (int k = 0; k < latent_keys / 16; ++k) {
    mma::a_part left[M];
    DEEPSEEK_UNROLL
    for (int m = 0; m < M; ++m) {
      mma::load_matrices<false>(block, left[m].word, p.weights(m * 16 + at.row, k * 2 + at.unit));
    }
    DEEPSEEK_UNROLL
    for (int n = 0; n < N; n += 2) {
      std::uint32_t two[4];
      mma::load_matrices<true>(block, two, v.unit(k * 16 + at.row, column + n + at.unit));
      if constexpr (Finite) {
        DEEPSEEK_UNROLL
        for (auto& word : two) word = finite_or_zero<T>(word);
      }
      DEEPSEEK_UNROLL
      for (int m = 0; m < M; ++m) {
        mma::multiply_add(block, o.part[m][n], left[m], {{two[0], two[1]}});
        mma::multiply_add(block, o.part[m][n + 1], left[m], {{two[2], two[3]}});
      }
    }
  }
}

// Whether the warp's columns of the tile hold a NaN or an infinity; all lanes get the same.
template <int N, class Block, class T, int Width>
DEEPSEEK_HOST_DEVICE bool columns_not_finite(const Block& block, const row_tile<T, Width>& v,
                                             int column) {
  bool found = false;
  for (int i = block.lane(); i < latent_keys * N; i += warp_size) {
    const T* const unit = v.unit(i / N, column + i % N);
    for (int e = 0; e < 8; ++e) {
      found = found || (unit[e].bits & full_exponent<T>) == full_exponent<T>;
    }
  }
  return block.ballot(found) != 0;
}

// Adds what is not finite in the warp's columns to the rows that see it: with
// multiply_weights<true>.
template <int M, int N, class Block, class T, int Width>
DEEPSEEK_HOST_DEVICE void add_columns_not_finite(const Block& block, sums<T, M, N>& o,
                                                 const score_room<T, 16 * M>& p,
                                                 const row_tile<T, Width>& v, int column) {
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
  for (int j = 0; j < latent_keys; ++j) {
    DEEPSEEK_UNROLL
    for (int n = 0; n < 2 * N; ++n) {
      const T x = v.unit(j, column + n / 2)[part_column(block.lane(), 0, n % 2)];
      if ((x.bits & full_exponent<T>) != full_exponent<T>) continue;
      DEEPSEEK_UNROLL
      for (int r = 0; r < 2 * M; ++r) {
        if ((p.bits(part_row(block.lane(), r / 2, r % 2)) >> j & 1) != 0) {
          o.part[r / 2][n / 2].x[r % 2 * 2 + n % 2] += static_cast<float>(x);
        }
      }
    }
  }
}

}  // namespace deepseek::cuda_attention
