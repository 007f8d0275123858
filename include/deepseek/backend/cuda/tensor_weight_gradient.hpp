// SPDX-License-Identifier: Apache-2.0
// dw[e] += a_e^T b_e on tensor cores (sm_80 and later) for 16-bit a [R, M], b [R, N] and dw
// [E, M, N]: 128 x 128 of one expert's matrix by four warps of 64 x 64, rows in order, 32 at a time
// through three stages of shared memory, one barrier each. Both factors lie along the wrong side
// and are turned in registers (tensor_packets.hpp); a lane's sums are runs of 8 neighbours along M.
// One block has all rows of an expert, so the order of a sum never changes. Sums in float, rounded
// once. Unproven on hardware.
#pragma once

#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/backend/cuda/tensor_packets.hpp"
#include "deepseek/backend/cuda/vectors.hpp"

namespace deepseek {

namespace cuda_tensor {

// Where unit `unit` (8 elements) of row `row` of a stage stands: the rows 8 t + r of the lanes t
// of a fragment, at two units, meet all banks.
DEEPSEEK_HOST_DEVICE constexpr int turned_slot(int row, int unit, int units) {
  return row * units + (unit ^ (row >> 3 & 3) << 1);
}

template <class A, class B, class O, class DW>
struct weight_gradient {
  using T = typename A::value_type;
  using D = typename DW::value_type;
  static constexpr int threads = 128, tile = 128, stages = 3, units = tile / 8;
  static constexpr int side = steps * units;  // packets of one factor's stage
  static constexpr int tiles = 4, parts = 8;  // of a warp: 16 x 8 numbers each
  using sums = mma::c_part<std::remove_const_t<T>>[tiles][parts];
  A a;
  B b;
  O offsets;
  DW dw;
  bool whole;  // runs of dw can be read and written 16 bytes at a time

  DEEPSEEK_HOST_DEVICE index_t down() const { return (dw.extent(1) + tile - 1) / tile; }
  DEEPSEEK_HOST_DEVICE index_t across() const { return (dw.extent(2) + tile - 1) / tile; }
  index_t blocks() const { return dw.extent(0) * down() * across(); }
  static std::size_t shared_bytes() { return sizeof(packet) * 2 * side * stages; }

  struct task {
    index_t e, begin, end, m, n;
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t each = down() * across(), e = block.index() / each, at = block.index() % each;
    const task own{e, first_of(offsets, e), end_of(offsets, e), at / across() * tile,
                   at % across() * tile};
    if (own.begin == own.end) return;
    for (int j = 0; j + 1 < stages; ++j) copy_rows(block, own, j);
    sums c = {};
    const int last = static_cast<int>((own.end - own.begin + steps - 1) / steps);
    for (int j = 0; j < last; ++j) {
      mma::wait_copies<stages - 2>(block);
      block.sync();
      copy_rows(block, own, j + stages - 1);
      multiply(block, stage(block, j), c);
    }
    mma::wait_copies<0>(block);
    add(block, own, c);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE static packet* stage(const Block& block, int j) {
    return reinterpret_cast<packet*>(block.shared()) + j % stages * 2 * side;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_rows(const Block& block, const task& own, int j) const {
    const index_t first = own.begin + index_t{j} * steps;
    packet* const to = stage(block, j);
    for (int i = block.rank(); i < side && first < own.end; i += threads) {
      const int row = i / units, unit = i % units;
      const index_t r = first + row, m = own.m + unit * 8, n = own.n + unit * 8;
      packet* const slot = to + turned_slot(row, unit, units);
      const bool has_a = r < own.end && m < a.extent(1), has_b = r < own.end && n < b.extent(1);
      mma::copy_async(block, slot, has_a ? &a(r, m) : a.data(), has_a);
      mma::copy_async(block, slot + side, has_b ? &b(r, n) : b.data(), has_b);
    }
    mma::commit_copies(block);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE static void multiply(const Block& block, const packet* from, sums& c) {
    const int t = block.lane() % 4, g = block.lane() / 4;
    const int left_unit = block.warp() / 2 * 8 + g, right_unit = block.warp() % 2 * 8 + g;
    DEEPSEEK_UNROLL
    for (int s = 0; s < 2; ++s) {
      packet left[4], right[4];
      DEEPSEEK_UNROLL
      for (int r = 0; r < 4; ++r) {
        const int row = 8 * t + 4 * s + r;
        left[r] = from[turned_slot(row, left_unit, units)];
        right[r] = from[side + turned_slot(row, right_unit, units)];
      }
      mma::a_part lefts[tiles];
      DEEPSEEK_UNROLL
      for (int i = 0; i < tiles; ++i) lefts[i] = turned_left(left, i);
      DEEPSEEK_UNROLL
      for (int j = 0; j < parts; ++j) {
        const mma::b_part one = turned_right(right, j);
        DEEPSEEK_UNROLL
        for (int i = 0; i < tiles; ++i) mma::multiply_add(block, c[i][j], lefts[i], one);
      }
    }
  }

  // Part j has columns 8 (2 t + v) + j for v = 0, 1; its rows 8 g .. 8 g + 7 are neighbours.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add(const Block& block, const task& own, const sums& c) const {
    const index_t m = own.m + block.warp() / 2 * 64 + block.lane() / 4 * 8;
    const index_t n0 = own.n + block.warp() % 2 * 64 + block.lane() % 4 * 16;
    if (m >= dw.extent(1)) return;
    DEEPSEEK_UNROLL
    for (int v = 0; v < 2; ++v) {
      DEEPSEEK_UNROLL
      for (int j = 0; j < parts; ++j) {
        const index_t n = n0 + 8 * v + j;
        if (n >= dw.extent(2)) continue;
        float run[8];
        DEEPSEEK_UNROLL
        for (int i = 0; i < 8; ++i) run[i] = c[i / 2][j].x[i % 2 * 2 + v];
        add_run(run, &dw(own.e, m, n));
      }
    }
  }
  DEEPSEEK_HOST_DEVICE void add_run(const float (&run)[8], D* to) const {
    if (whole) {
      alignas(vector_bytes) D some[8];
      load_run<8>(to, some);
      DEEPSEEK_UNROLL
      for (int i = 0; i < 8; ++i) some[i] = static_cast<D>(run[i] + static_cast<float>(some[i]));
      store_run<8>(some, to);
    } else {
      DEEPSEEK_UNROLL
      for (int i = 0; i < 8; ++i) {
        D& one = to[i * dw.stride(1)];
        one = static_cast<D>(run[i] + static_cast<float>(one));
      }
    }
  }
};

// Rows [R, .] that are whole packets.
template <class X>
bool rows_are_packets(const X& x) {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename X::value_type));
  return x.stride(1) == 1 && begins_at_packet(x.data()) &&
         x.extent(1) * bytes % packet_bytes == 0 && x.stride(0) * bytes % packet_bytes == 0;
}

// Whether the gradient was added here.
template <class Device, class X, class DY, class O, class DW>
bool run_weight_gradient(const Device& device, const X& x, const DY& dy, const O& offsets,
                         const DW& dw) {
  using T = typename X::value_type;
  using D = typename DW::value_type;
  if constexpr (sizeof(T) == 2 && std::is_same_v<T, typename DY::value_type> &&
                std::is_same_v<accumulate_t<D>, float>) {
    if (!rows_are_packets(x) || !rows_are_packets(dy)) return false;
    const auto run = [&](const auto& a, const auto& b, const auto& to) {
      constexpr auto each = packet_bytes / static_cast<index_t>(sizeof(D));
      const bool whole = to.stride(1) == 1 && begins_at_packet(to.data()) &&
                         to.stride(0) % each == 0 && to.stride(2) % each == 0;
      device.launch(
          weight_gradient<std::remove_cvref_t<decltype(a)>, std::remove_cvref_t<decltype(b)>, O,
                          std::remove_cvref_t<decltype(to)>>{a, b, offsets, to, whole});
    };
    if (dw.stride(1) == 1) {
      run(x, dy, dw);
    } else {
      run(dy, x, transposed(dw));
    }
    return true;
  } else {
    return false;
  }
}

}  // namespace cuda_tensor

}  // namespace deepseek
