// SPDX-License-Identifier: Apache-2.0
// What the tensor core kernels of attention share: tiles of 16-bit rows in shared memory (swizzled
// units of 16 bytes), their copies from views with aligned rows, and products of warps' tiles.
#pragma once

#include "deepseek/backend/cuda/attention/row_launch.hpp"
#include "deepseek/backend/cuda/mma.hpp"

namespace deepseek::cuda_attention {

// Rows of a view [tokens, heads, width] that can be read 16 bytes at a time.
template <class View>
bool rows_aligned(const View& v) {
  const auto whole = [&](int i) { return v.extent(i) <= 1 || v.stride(i) % 8 == 0; };
  return sizeof(typename View::value_type) == 2 && v.stride(2) == 1 && whole(0) && whole(1) &&
         reinterpret_cast<std::uintptr_t>(v.data()) % 16 == 0;
}

// A tile of rows of `Width` 16-bit elements in shared memory.
template <class T, int Width>
struct row_tile {
  using type = T;
  static constexpr int width = Width, units = Width / 8;
  T* data;

  DEEPSEEK_HOST_DEVICE T* unit(int row, int unit) const {
    return data + row * Width + mma::swizzled(row, unit, units) * 8;
  }
  DEEPSEEK_HOST_DEVICE static constexpr int size(int rows) { return rows * Width; }
};

// Copies rows 0 .. Rows - 1; row_at(r) is its address, or null: zeros.
template <int Rows, class Block, class T, int Width, class Row>
DEEPSEEK_HOST_DEVICE void copy_rows(const Block& block, const row_tile<T, Width>& to, const T* any,
                                    const Row& row_at) {
  constexpr int units = row_tile<T, Width>::units;
  for (int i = block.rank(); i < Rows * units; i += block.size()) {
    const int row = i / units, unit = i % units;
    const T* const from = row_at(row);
    mma::copy_async(block, to.unit(row, unit), from == nullptr ? any : from + unit * 8,
                    from != nullptr);
  }
}

// Registers of M blocks of 16 rows by N blocks of 8 columns.
template <class T, int M, int N>
struct sums {
  mma::c_part<T> part[M][N] = {};
};

// c += a b^T over the width, or steps step .. end - 1 of 16 of it: rows first .. of a by the 8 N
// rows of b from `from` on.
template <int M, int N, class Block, class T, int Width>
DEEPSEEK_HOST_DEVICE void multiply_rows(const Block& block, sums<T, M, N>& c,
                                        const row_tile<T, Width>& a, int first,
                                        const row_tile<T, Width>& b, int from = 0, int step = 0,
                                        int end = Width / 16) {
  const mma::corner at = mma::rows_first(block.lane()), low = mma::units_first(block.lane());
#if defined(__CUDA_ARCH__)
#pragma unroll 2  // more would keep addresses in registers
#endif
  for (int k = step; k < end; ++k) {
    mma::a_part left[M];
    DEEPSEEK_UNROLL
    for (int m = 0; m < M; ++m) {
      mma::load_matrices<false>(block, left[m].word,
                                a.unit(first + m * 16 + at.row, k * 2 + at.unit));
    }
    DEEPSEEK_UNROLL
    for (int n = 0; n < N; n += 2) {
      std::uint32_t two[4];
      mma::load_matrices<false>(block, two, b.unit(from + n * 8 + low.row, k * 2 + low.unit));
      DEEPSEEK_UNROLL
      for (int m = 0; m < M; ++m) {
        mma::multiply_add(block, c.part[m][n], left[m], {{two[0], two[1]}});
        mma::multiply_add(block, c.part[m][n + 1], left[m], {{two[2], two[3]}});
      }
    }
  }
}

// c as a left factor: columns 16 k .. 16 k + 15, rounded to T.
template <class T, int M, int N>
DEEPSEEK_HOST_DEVICE mma::a_part as_left(const sums<T, M, N>& c, int m, int k) {
  const auto& low = c.part[m][2 * k].x;
  const auto& high = c.part[m][2 * k + 1].x;
  return {{mma::pack<T>(low[0], low[1]), mma::pack<T>(low[2], low[3]),
           mma::pack<T>(high[0], high[1]), mma::pack<T>(high[2], high[3])}};
}

// The bits of an exponent that is all ones: NaN or infinity.
template <class T>
inline constexpr std::uint32_t full_exponent = std::is_same_v<T, bf16> ? 0x7f80U : 0x7c00U;

// The two elements of a register, zero where not finite.
template <class T>
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t finite_or_zero(std::uint32_t two) {
  constexpr std::uint32_t low = full_exponent<T>, high = low << 16;
  return two & ((two & low) == low ? 0xffff0000U : ~0U) & ((two & high) == high ? 0xffffU : ~0U);
}

// c += p b: p of M x 16 rows by 16 K rows of b, rounded to T; columns of all of b. With Finite,
// what is not finite in b counts as zero.
template <bool Finite, int K, int M, int N, class Block, class T, class Tile>
DEEPSEEK_HOST_DEVICE void multiply_columns(const Block& block, sums<T, M, N>& c,
                                           const sums<T, M, 2 * K>& p, const Tile& b) {
  const mma::corner at = mma::rows_first(block.lane());
  DEEPSEEK_UNROLL
  for (int k = 0; k < K; ++k) {
    mma::a_part left[M];
    DEEPSEEK_UNROLL
    for (int m = 0; m < M; ++m) left[m] = as_left(p, m, k);
    DEEPSEEK_UNROLL
    for (int n = 0; n < N; n += 2) {
      std::uint32_t two[4];
      mma::load_matrices<true>(block, two, b.unit(k * 16 + at.row, n + at.unit));
      if constexpr (Finite) {
        DEEPSEEK_UNROLL
        for (auto& word : two) word = finite_or_zero<T>(word);
      }
      DEEPSEEK_UNROLL
      for (int m = 0; m < M; ++m) {
        mma::multiply_add(block, c.part[m][n], left[m], {{two[0], two[1]}});
        mma::multiply_add(block, c.part[m][n + 1], left[m], {{two[2], two[3]}});
      }
    }
  }
}

// Whether the first `rows` rows of a tile hold a NaN or an infinity; all lanes get the same.
template <class Block, class T, int Width>
DEEPSEEK_HOST_DEVICE bool not_finite(const Block& block, const row_tile<T, Width>& tile, int rows) {
  const auto* const words = reinterpret_cast<const std::uint32_t*>(tile.data);
  bool found = false;
  for (int i = block.lane(); i < rows * Width / 2; i += warp_size) {
    found = found || finite_or_zero<T>(words[i]) != words[i];
  }
  return block.ballot(found) != 0;
}

// The row (of its warp's 16 M) and the column of what a lane has of a product: part[m][n].x[2 h +
// i].
DEEPSEEK_HOST_DEVICE constexpr int part_row(int lane, int m, int h) {
  return m * 16 + h * 8 + lane / 4;
}
DEEPSEEK_HOST_DEVICE constexpr int part_column(int lane, int n, int i) {
  return n * 8 + lane % 4 * 2 + i;
}

// Adds change(x) of each x of the first `rows` rows of b that is not finite to c's rows that see
// it: sees(m, h, j) of b's row j. What goes with multiply_columns<true>.
template <class Block, class T, int M, int N, class Tile, class Sees, class Change>
DEEPSEEK_HOST_DEVICE void add_not_finite(const Block& block, sums<T, M, N>& c, const Tile& b,
                                         int rows, const Sees& sees, const Change& change) {
  for (int j = 0; j < rows; ++j) {
    DEEPSEEK_UNROLL
    for (int n = 0; n < 2 * N; ++n) {
      const T x = b.unit(j, n / 2)[part_column(block.lane(), 0, n % 2)];
      if ((x.bits & full_exponent<T>) != full_exponent<T>) continue;
      DEEPSEEK_UNROLL
      for (int r = 0; r < 2 * M; ++r) {
        if (sees(r / 2, r % 2, j)) {
          c.part[r / 2][n / 2].x[r % 2 * 2 + n % 2] += change(static_cast<float>(x));
        }
      }
    }
  }
}

// c += p b as multiply_columns; where `hidden` pairs are among them (p is 0 there), what is not
// finite in b reaches only the rows that see it, as change(x).
template <int K, int M, int N, class Block, class T, int Width, class Sees, class Change>
DEEPSEEK_HOST_DEVICE void multiply_seen(const Block& block, sums<T, M, N>& c,
                                        const sums<T, M, 2 * K>& p, const row_tile<T, Width>& b,
                                        bool hidden, const Sees& sees, const Change& change) {
  if (!hidden || !not_finite(block, b, 16 * K)) {
    multiply_columns<false, K>(block, c, p, b);
  } else {
    multiply_columns<true, K>(block, c, p, b);
    add_not_finite(block, c, b, 16 * K, sees, change);
  }
}
struct value_itself {
  DEEPSEEK_HOST_DEVICE float operator()(float x) const { return x; }
};
struct value_as_nan {  // a score with it was not finite
  DEEPSEEK_HOST_DEVICE float operator()(float x) const { return x - x; }
};

}  // namespace deepseek::cuda_attention
