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
// Where the device has warp groups, plain weights by more than 32 rows an expert are theirs instead
// (group_product.hpp): other bits than these two, the same for a row in any such batch.
// Rows and weights have to begin at multiples of 16 bytes and be whole packets, else coded_gemm.hpp
// takes its plain kernels. Unproven on hardware: the rates, and the limits between the kernels.
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/group_product.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/backend/cuda/tensor_warp.hpp"

namespace deepseek {

namespace cuda_tensor {

template <class P, int N>
struct few_rows {
  using part = warp_product<P, N>;
  using F = typename part::F;
  static constexpr int threads = 128, warps = threads / warp_size, rows = part::rows;
  static constexpr int slots = (F::units + part::row_packets) * warp_size;  // of a warp and stage
  static constexpr int stages = slots <= 64 ? 6 : slots <= 160 ? 4 : part::numbers <= 32 ? 3 : 2;
  static constexpr std::size_t ring_bytes = sizeof(packet) * slots * stages * warps;
  static constexpr std::size_t sum_bytes = sizeof(float) * part::numbers * threads;
  static_assert(ring_bytes + sum_bytes + reserved_bytes <= 99 * 1024, "what every device has");
  P p;
  int deep;  // warps along k: 1, 2 or 4; the others stand side by side

  DEEPSEEK_HOST_DEVICE int block_width() const { return warps / deep * part::outputs; }
  index_t blocks() const { return p.cut(rows).slots() * blocks_of(p.w.out, block_width()); }
  std::size_t shared_bytes() const { return ring_bytes + (deep == 1 ? 0 : sum_bytes); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.stopped()) return;
    const block_place place(block, p.cut(rows).slots());
    const row_tile tile = p.cut(rows).find(block, place.slot);
    if (tile.empty()) return;
    const index_t n0 = place.across * block_width() + block.warp() / deep * part::outputs;
    run(block, {tile.group, n0, tile.first, tile.end});
  }

  // Warps that share outputs share the sums of slabs as well: who adds number q of a lane.
  template <class Block>
  DEEPSEEK_HOST_DEVICE bool owns(const Block& block, int q) const {
    return ((q ^ block.warp()) & (deep - 1)) == 0;
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
      if (owns(block, q)) own.store(at, block.lane(), q, totals[q]);
    }
  }

  // The slabs of a round, in order.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add(const Block& block, const warp_tile& at, index_t first,
                                const typename part::sums& c,
                                float (&totals)[part::numbers]) const {
    const part own{p};
    if (deep == 1) {
      const auto weights = own.slab_weights(at, block.lane(), first);
      DEEPSEEK_UNROLL
      for (int q = 0; q < part::numbers; ++q) {
        totals[q] = part::added(totals[q], part::number(c, q), weights, q);
      }
      return;
    }
    float* const sums = reinterpret_cast<float*>(block.shared() + ring_bytes);
    float* const mine = sums + block.warp() * part::numbers * warp_size + block.lane();
    DEEPSEEK_UNROLL
    for (int q = 0; q < part::numbers; ++q) {
      mine[q * warp_size] = part::number(c, q);
    }
    block.sync();
    const float* const all = mine - block.warp() % deep * (part::numbers * warp_size);
    for (int s = 0; s < deep && first + s < p.slabs(); ++s) {
      const auto weights = own.slab_weights(at, block.lane(), first + s);
      DEEPSEEK_UNROLL
      for (int q = 0; q < part::numbers; ++q) {
        if (!owns(block, q)) continue;
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
        totals[q] = part::added(totals[q], part::number(c, q), weights, q);
      }
    }
    mma::wait_copies<0>(block);
    DEEPSEEK_UNROLL
    for (int q = 0; q < part::numbers; ++q) own.store(mine, block.lane(), q, totals[q]);
  }
};

// Eights of rows of a warp of many_rows: what its registers hold; weighed steps need more of them.
template <class F>
inline constexpr int many_parts = F::weighs_steps ? 4 : 16 / F::tiles;

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
    } else if (!run_group_product(b, p)) {
      b.launch(many_rows<P, 4, 2, many_parts<F>>{p});
    }
    return true;
  } else {
    return false;
  }
}

}  // namespace cuda_tensor

}  // namespace deepseek
