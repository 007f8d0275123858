// SPDX-License-Identifier: Apache-2.0
// What one warp multiplies on tensor cores: 16 `tiles` outputs of one expert's weights by N times 8
// rows, whose packets (tensor_packets.hpp) its kernel has brought to shared memory. Sums of a slab
// stand in the registers of mma.hpp; scales weigh them in float, by fused multiply-adds.
#pragma once

#include "deepseek/backend/cuda/tensor_weights.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_tensor {

using cuda_coded::slab;

// What a warp multiplies: outputs n .. of expert e by rows m .. end - 1.
struct warp_tile {
  index_t e, n, m, end;
};

// The parts of a problem P that a warp needs, for N times 8 rows.
template <class P, int N>
struct warp_product {
  using T = typename P::x_type;
  using F = fragments<T, typename P::form_type>;
  using group = typename F::group;
  using sums = mma::c_part<T>[F::tiles][N];
  static constexpr int rows = 8 * N, outputs = 16 * F::tiles, numbers = F::tiles * N * 4;
  static constexpr int halves = F::depth / steps, per_slab = static_cast<int>(slab) / F::depth;
  static constexpr int row_packets = halves * N;  // of a lane and step
  const P& p;

  // Packet i of a lane of the rows from m on, at steps k ..
  DEEPSEEK_HOST_DEVICE const void* row_source(index_t m, index_t end, index_t k, int lane,
                                              int i) const {
    const index_t own_m = m + i % N * 8 + lane / 4;
    const index_t own_k = k + lane % 4 * (F::depth / 4) + i / N * 8;
    return own_m < end && own_k < p.w.in ? &p.x(own_m, own_k) : nullptr;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy(const Block& block, packet* to, const void* from) const {
    mma::copy_async(block, to, from == nullptr ? static_cast<const void*>(p.x.data()) : from,
                    from != nullptr);
  }
  DEEPSEEK_HOST_DEVICE index_t first_output(const warp_tile& at, int lane) const {
    const index_t n = at.n + lane / 4 * (2 * F::tiles);
    return n < p.w.out ? n : 0;  // behind the last: any
  }
  DEEPSEEK_HOST_DEVICE group group_at(const warp_tile& at, int lane, index_t k) const {
    return F::group_at(p.w, at.e, first_output(at, lane), k < p.w.in ? k : 0);
  }

  // c += weights x rows of one step, whose packets stand in slots [.][lane].
  template <class Block>
  DEEPSEEK_HOST_DEVICE void multiply(const Block& block, const group& g, const packet* weights,
                                     const packet* x, sums& c) const {
    packet left[F::units], right[N];
    DEEPSEEK_UNROLL
    for (int u = 0; u < F::units; ++u) left[u] = weights[u * warp_size + block.lane()];
    DEEPSEEK_UNROLL
    for (int q = 0; q < halves; ++q) {
      DEEPSEEK_UNROLL
      for (int j = 0; j < N; ++j) right[j] = x[(q * N + j) * warp_size + block.lane()];
      DEEPSEEK_UNROLL
      for (int i = 0; i < F::tiles; ++i) {
        const mma::a_part first = F::left(left, g, i, 2 * q),
                          second = F::left(left, g, i, 2 * q + 1);
        DEEPSEEK_UNROLL
        for (int j = 0; j < N; ++j) {
          if constexpr (F::weighs_steps) {
            mma::c_part<T> alone{};
            mma::multiply_add(block, alone, first, F::right(right[j], 0));
            mma::multiply_add(block, alone, second, F::right(right[j], 1));
            DEEPSEEK_UNROLL
            for (int v = 0; v < 4; ++v) {
              c[i][j].x[v] = std::fma(alone.x[v], F::step_weight(g, 2 * i + v / 2), c[i][j].x[v]);
            }
          } else {
            mma::multiply_add(block, c[i][j], first, F::right(right[j], 0));
            mma::multiply_add(block, c[i][j], second, F::right(right[j], 1));
          }
        }
      }
    }
  }

  // What slab s weighs for the outputs of a lane.
  struct slab_factors {
    float of[2 * F::tiles];
  };
  DEEPSEEK_HOST_DEVICE slab_factors slab_weights(const warp_tile& at, int lane, index_t s) const {
    slab_factors w{};
    if constexpr (F::weighs_slabs) {
      const index_t n = first_output(at, lane);
      for (int c = 0; c < 2 * F::tiles; ++c) {
        w.of[c] = F::slab_weight(p.w, at.e, n + c < p.w.out ? n + c : n, s);
      }
    }
    return w;
  }
  // Number q of a lane: tile q / (4 N), part q / 4 % N, element q % 4.
  DEEPSEEK_HOST_DEVICE static float number(const sums& c, int q) {
    return c[q / (4 * N)][q / 4 % N].x[q % 4];
  }
  DEEPSEEK_HOST_DEVICE static float added(float total, float inner, const slab_factors& w, int q) {
    if constexpr (F::weighs_slabs) return std::fma(inner, w.of[q / (4 * N) * 2 + q % 4 / 2], total);
    return total + inner;
  }
  DEEPSEEK_HOST_DEVICE void store(const warp_tile& at, int lane, int q, float total) const {
    const mma::place in = mma::c_place(lane, q % 4);
    const index_t n = at.n + output_of(F::tiles, q / (4 * N), in.row);
    const index_t m = at.m + q / 4 % N * 8 + in.column;
    if (m < at.end && n < p.w.out) p.store(m, n, total);
  }
};

}  // namespace cuda_tensor

}  // namespace deepseek
