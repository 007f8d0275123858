// SPDX-License-Identifier: Apache-2.0
// coded_product of 16-bit rows on tensor cores (sm_80 and later): weights are the left factor, so a
// few rows fill 8 columns. Sums over k as in coded_gemm.hpp: slabs of 128 (in steps of 32 or 64, in
// order), added in their order; the scales of a form weigh them. A row has the same bits in every
// batch and in both kernels:
//   few_rows   8 or 32 rows of an expert. A warp has 32 or 64 outputs and every lane copies the
//              packets that it will multiply itself, asynchronously and several steps ahead:
//              weights are read once, 16 bytes a load, and no thread waits for another. Where
//              outputs are few, `deep` warps share k slab by slab
//   many_rows  tiles of 128 or 64 rows by 128 or 256 outputs, 8 warps, three stages in shared
//              memory, one barrier a step
// Rows and weights have to begin at multiples of 16 bytes and be whole packets, else coded_gemm.hpp
// takes its plain kernels. Unproven on hardware: the rates, and the limits between the kernels.
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
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
  DEEPSEEK_HOST_DEVICE static constexpr int column_of(int q) { return q / (4 * N) * 2 + q % 4 / 2; }
  DEEPSEEK_HOST_DEVICE static float added(float total, float inner, const slab_factors& w, int q) {
    if constexpr (F::weighs_slabs) return std::fma(inner, w.of[column_of(q)], total);
    return total + inner;
  }
  DEEPSEEK_HOST_DEVICE void store(const warp_tile& at, int lane, int q, float total) const {
    const index_t n = at.n + lane / 4 * (2 * F::tiles) + column_of(q);
    const index_t m = at.m + q / 4 % N * 8 + lane % 4 * 2 + q % 2;
    if (m < at.end && n < p.w.out) p.store(m, n, total);
  }
};

template <class P, int N>
struct few_rows {
  using part = warp_product<P, N>;
  using F = typename part::F;
  static constexpr int threads = 128, warps = threads / warp_size, rows = part::rows;
  static constexpr int slots = (F::units + part::row_packets) * warp_size;  // of a warp and stage
  static constexpr int stages = slots <= 64 ? 6 : slots <= 160 ? 4 : 3;
  P p;
  int deep;  // warps along k: 1, 2 or 4; the others stand side by side

  DEEPSEEK_HOST_DEVICE int block_width() const { return warps / deep * part::outputs; }
  index_t blocks() const { return p.cut(rows).slots() * blocks_of(p.w.out, block_width()); }
  std::size_t shared_bytes() const {
    const std::size_t sums = deep == 1 ? 0 : sizeof(float) * part::numbers * threads;
    return sizeof(packet) * slots * stages * warps + sums;
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.stopped()) return;
    const block_place place(block, p.cut(rows).slots());
    const row_tile tile = p.cut(rows).find(block, place.slot);
    if (tile.empty()) return;
    const index_t n0 = place.across * block_width() + block.warp() / deep * part::outputs;
    run(block, {tile.group, n0, tile.first, tile.end});
  }

  // Step j of this warp begins here.
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t step_at(const Block& block, int j) const {
    const index_t own = index_t{j / part::per_slab} * deep + block.warp() % deep;
    return own * slab + j % part::per_slab * F::depth;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE packet* stage(const Block& block, int j) const {
    auto* const memory = reinterpret_cast<packet*>(block.shared());
    return memory + (block.warp() * stages + j % stages) * slots;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_step(const Block& block, const warp_tile& at, int j) const {
    const part own{p};
    const index_t k = step_at(block, j);
    packet* const to = stage(block, j) + block.lane();
    if (k < p.w.in) {
      for (int u = 0; u < F::units; ++u) {
        own.copy(block, to + u * warp_size, F::source(p.w, at.e, at.n, k, block.lane(), u));
      }
      for (int i = 0; i < part::row_packets; ++i) {
        own.copy(block, to + (F::units + i) * warp_size,
                 own.row_source(at.m, at.end, k, block.lane(), i));
      }
    }
    mma::commit_copies(block);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void run(const Block& block, const warp_tile& at) const {
    const part own{p};
    for (int j = 0; j + 1 < stages; ++j) copy_step(block, at, j);
    auto next = own.group_at(at, block.lane(), step_at(block, 0));
    float totals[part::numbers] = {};
    int j = 0;
    for (index_t first = 0; first < p.slabs(); first += deep) {
      typename part::sums c = {};
      for (int s = 0; s < part::per_slab; ++s, ++j) {
        mma::wait_copies<stages - 2>(block);
        copy_step(block, at, j + stages - 1);
        const auto group = next;
        next = own.group_at(at, block.lane(), step_at(block, j + 1));
        if (step_at(block, j) >= p.w.in) continue;
        const packet* const from = stage(block, j);
        own.multiply(block, group, from, from + F::units * warp_size, c);
      }
      add(block, at, first, c, totals);
    }
    mma::wait_copies<0>(block);
    DEEPSEEK_UNROLL
    for (int q = 0; q < part::numbers; ++q) {
      if (q % deep == block.warp() % deep) own.store(at, block.lane(), q, totals[q]);
    }
  }

  // The slabs of a round, in order. Warps that share outputs share the sums as well: number q is
  // added by warp q mod deep of them.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add(const Block& block, const warp_tile& at, index_t first,
                                const typename part::sums& c,
                                float (&totals)[part::numbers]) const {
    const part own{p};
    if (deep == 1) {
      const auto weights = own.slab_weights(at, block.lane(), first);
      DEEPSEEK_UNROLL
      for (int q = 0; q < part::numbers; ++q) {
        totals[q] = part::added(totals[q], c[q / (4 * N)][q / 4 % N].x[q % 4], weights, q);
      }
      return;
    }
    float* const sums =
        reinterpret_cast<float*>(block.shared() + sizeof(packet) * slots * stages * warps);
    float* const mine = sums + block.rank() / warp_size * part::numbers * warp_size + block.lane();
    DEEPSEEK_UNROLL
    for (int q = 0; q < part::numbers; ++q) {
      mine[q * warp_size] = c[q / (4 * N)][q / 4 % N].x[q % 4];
    }
    block.sync();
    const float* const all = mine - block.warp() % deep * (part::numbers * warp_size);
    for (int s = 0; s < deep && first + s < p.slabs(); ++s) {
      const auto weights = own.slab_weights(at, block.lane(), first + s);
      DEEPSEEK_UNROLL
      for (int q = 0; q < part::numbers; ++q) {
        if (q % deep != block.warp() % deep) continue;
        totals[q] = part::added(totals[q], all[(s * part::numbers + q) * warp_size], weights, q);
      }
    }
    block.sync();
  }
};

// Down x Across warps, each its outputs by N times 8 rows.
template <class P, int Down, int Across, int N>
struct many_rows {
  using part = warp_product<P, N>;
  using F = typename part::F;
  static constexpr int threads = Down * Across * warp_size, rows = part::rows * Across;
  static constexpr int outputs = part::outputs * Down, stages = 3;
  static constexpr int weight_packets = Down * F::units;  // times 32
  static constexpr int slots = (weight_packets + Across * part::row_packets) * warp_size;
  P p;

  index_t blocks() const { return p.cut(rows).slots() * blocks_of(p.w.out, outputs); }
  static std::size_t shared_bytes() { return sizeof(packet) * slots * stages; }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.stopped()) return;
    const block_place place(block, p.cut(rows).slots());
    const row_tile tile = p.cut(rows).find(block, place.slot);
    if (tile.empty()) return;
    run(block, {tile.group, place.across * outputs, tile.first, tile.end});
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE packet* stage(const Block& block, int j) const {
    return reinterpret_cast<packet*>(block.shared()) + j % stages * slots;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_step(const Block& block, const warp_tile& at, int j) const {
    const part own{p};
    const index_t k = index_t{j} * F::depth;
    packet* const to = stage(block, j);
    if (k < p.w.in) {
      for (int i = block.rank(); i < slots; i += threads) {
        const int which = i / warp_size, x = which - weight_packets;
        const void* const from =
            x < 0 ? F::source(p.w, at.e, at.n + which / F::units * part::outputs, k, block.lane(),
                              which % F::units)
                  : own.row_source(at.m + x / part::row_packets * part::rows, at.end, k,
                                   block.lane(), x % part::row_packets);
        own.copy(block, to + i, from);
      }
    }
    mma::commit_copies(block);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void run(const Block& block, const warp_tile& at) const {
    const part own{p};
    const int down = block.warp() % Down, across = block.warp() / Down;
    const warp_tile mine{at.e, at.n + down * part::outputs, at.m + across * part::rows, at.end};
    for (int j = 0; j + 1 < stages; ++j) copy_step(block, at, j);
    auto next = own.group_at(mine, block.lane(), 0);
    float totals[part::numbers] = {};
    const int slabs = static_cast<int>(p.slabs());
    for (int j = 0; j < slabs * part::per_slab;) {
      typename part::sums c = {};
      const auto weights = own.slab_weights(mine, block.lane(), j / part::per_slab);
      for (int s = 0; s < part::per_slab; ++s, ++j) {
        mma::wait_copies<stages - 2>(block);
        block.sync();
        copy_step(block, at, j + stages - 1);
        const auto group = next;
        next = own.group_at(mine, block.lane(), index_t{j + 1} * F::depth);
        if (index_t{j} * F::depth >= p.w.in) continue;
        const packet* const from = stage(block, j);
        own.multiply(block, group, from + down * F::units * warp_size,
                     from + (weight_packets + across * part::row_packets) * warp_size, c);
      }
      DEEPSEEK_UNROLL
      for (int q = 0; q < part::numbers; ++q) {
        totals[q] = part::added(totals[q], c[q / (4 * N)][q / 4 % N].x[q % 4], weights, q);
      }
    }
    mma::wait_copies<0>(block);
    DEEPSEEK_UNROLL
    for (int q = 0; q < part::numbers; ++q) own.store(mine, block.lane(), q, totals[q]);
  }
};

// As many warps along k as there are slabs for, until the device has blocks enough.
template <class P, int N, class B>
void run_few_rows(const B& b, const P& p) {
  constexpr index_t enough = 512;
  few_rows<P, N> kernel{p, 1};
  while (kernel.deep < few_rows<P, N>::warps && 2 * kernel.deep <= p.slabs() &&
         kernel.blocks() < enough) {
    kernel.deep *= 2;
  }
  b.launch(kernel);
}

// Whether the product was run here.
template <class B, class P>
bool run_product(const B& b, const P& p) {
  using T = typename P::x_type;
  if constexpr (Fragmented<T, typename P::form_type> && std::is_same_v<typename P::Acc, float>) {
    using F = fragments<T, typename P::form_type>;
    if (!p.x_whole || p.w.in == 0 || !F::suits(p.w)) return false;
    const index_t rows = p.y.extent(0), experts = p.cut(1).groups();
    if (rows <= 8 * experts) {
      run_few_rows<P, 1>(b, p);
    } else if (rows <= 32 * experts) {
      run_few_rows<P, 4>(b, p);
    } else {
      b.launch(many_rows<P, 4, 2, 16 / F::tiles>{p});
    }
    return true;
  } else {
    return false;
  }
}

}  // namespace cuda_tensor

}  // namespace deepseek
