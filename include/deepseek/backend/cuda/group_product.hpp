// SPDX-License-Identifier: Apache-2.0
// Products with plain weights on sm_90a ("level 2"), many rows of an expert: y = x W in tiles of
// 128 rows of one expert by 256 outputs, products of warp groups and tiles that the hardware
// fetches. A block has three groups. Of the first one warp finds tile after tile of the block, its
// expert by the offsets (row_tiles.hpp), and has x [128, 64] and W [256, 64], or [64, 256], copied
// step by step of k into a ring of four stages; a stage says which tile it is of, or that all is
// over. The other two have 64 rows each and keep their sums [64, 256] in registers. Of the two last
// steps of a group one may be under way while the next is waited for. Rows of x behind the expert's
// last are multiplied and not stored; behind an edge of a tensor stand zeros. Sums are in float
// over k in order, 16 at a time: where a row stands does not matter, but other kernels cut k
// otherwise. Cost: x is read out / 256 times, W rows / 128 times, by way of L2; tiles that run
// together share both (block_place.hpp). Not measured on hardware yet. Source: Thakkar et al.,
// CUTLASS 3 (persistent, warp-specialized products on Hopper).
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/backend/cuda/plain_weights.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/backend/cuda/tile_ring.hpp"

namespace deepseek {

namespace cuda_tensor {

inline constexpr int group_outputs = 256, group_depth = 64;  // of a tile, of a step of k

// Matrices [rows, width] of `experts`; steps in elements.
struct stored_matrices {
  const void* data;
  index_t width, rows, experts, row_step, expert_step;
  bulk::tile_source tiles(int box_rows) const {
    const index_t row = rows == 1 ? width : row_step;
    return {data,
            {width, rows, experts},
            {2 * row, 2 * (experts == 1 ? row : expert_step)},
            {64, box_rows, 1}};
  }
};

// How the weights of a form become right factors.
template <class Form>
struct group_weights;

template <class T>
requires(sizeof(T) == 2) struct group_weights<cuda_coded::plain_rows<T>> {
  using form = cuda_coded::plain_rows<T>;
  using tile = bulk::column_tiles<T, group_depth, group_outputs>;
  static bulk::tile_source source(const form& w, index_t experts) {
    return stored_matrices{w.data, w.in, w.out, experts, w.row_step, w.expert_step}.tiles(
        group_outputs);
  }
  DEEPSEEK_HOST_DEVICE static bulk::tile_place place(index_t e, index_t n, index_t k) {
    return {{k, n, e}};
  }
  // Steps 16 i .. 16 i + 15 of a tile.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static warp_group::matrix right(const Block& block, const tile& w, int i) {
    return warp_group::rows_of_sums(block, w.data) + i * 32;
  }
};
template <class T>
requires(sizeof(T) == 2) struct group_weights<cuda_coded::plain_columns<T>> {
  using form = cuda_coded::plain_columns<T>;
  using tile = bulk::column_tiles<T, group_outputs, group_depth>;
  static bulk::tile_source source(const form& w, index_t experts) {
    return stored_matrices{w.data, w.out, w.in, experts, w.row_step, w.expert_step}.tiles(
        group_depth);
  }
  DEEPSEEK_HOST_DEVICE static bulk::tile_place place(index_t e, index_t n, index_t k) {
    return {{n, k, e}};
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static warp_group::column_matrix right(const Block& block, const tile& w,
                                                              int i) {
    return warp_group::rows_of_columns(block, w.data, tile::part_bytes) +
           i * 16 * warp_group::row_bytes;
  }
};

template <class Form>
concept GroupWeights = requires {
  typename group_weights<Form>::tile;
};

// Four words of each lane of a quad: lane t gets word t of lanes 0, 1, 2, 3.
template <class Block>
DEEPSEEK_HOST_DEVICE void turn_quad(const Block& block, packet& p) {
  DEEPSEEK_UNROLL
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool high = (block.lane() & bit) != 0;
    DEEPSEEK_UNROLL
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      const std::uint32_t low = p.word[i], top = p.word[i | bit];
      const std::uint32_t got = block.shuffle_xor(high ? low : top, bit);
      p.word[i] = high ? got : low;
      p.word[i | bit] = high ? top : got;
    }
  }
}

// P: a problem of coded_gemm.hpp.
template <class P>
struct group_product {
  using T = typename P::x_type;
  using weights = group_weights<typename P::form_type>;
  using x_tile = bulk::column_tiles<T, group_depth, 2 * 64>;
  using w_tile = typename weights::tile;
  static constexpr int threads = bulk::ring_threads, stages = 4;
  static constexpr int group_rows = 64, rows = 2 * group_rows, parts = group_outputs / 8;
  static constexpr int producer_registers = 40, consumer_registers = 232;
  static constexpr int stage_bytes = x_tile::bytes + w_tile::bytes;

  P p;
  bulk::tile_map x, w;
  index_t most_blocks;

  DEEPSEEK_HOST_DEVICE index_t stretches() const {
    return (p.w.out + group_outputs - 1) / group_outputs;
  }
  DEEPSEEK_HOST_DEVICE index_t tiles() const { return p.cut(rows).slots() * stretches(); }
  index_t blocks() const { return smaller{}(tiles(), most_blocks); }
  static bulk::tile_source rows_of(const P& p) {
    return stored_matrices{p.x.data(), p.w.in, p.y.extent(0), 1, p.x.stride(0), 0}.tiles(rows);
  }

  // Rows first .. end - 1 by outputs from n on; first < 0: all is over.
  struct task {
    index_t first, end, n;
  };
  struct control {
    bulk::barrier full[stages], empty[stages];
    task of[stages];
  };
  static std::size_t shared_bytes() {
    return warp_group::core_bytes + std::size_t{stages} * stage_bytes + sizeof(control);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if constexpr (warp_group::compiled) {
      if (p.stopped()) return;
      const shared_parts at{bulk::first_core(block)};
      bulk::deal_roles<producer_registers, consumer_registers>(
          block, [&] { make_barriers(block, at.c()); }, [&] { produce(block, at); },
          [&] { consume(block, at); });
    }
  }

 private:
  using place = bulk::ring_place<stages>;
  using sums = mma::c_part<T>[parts];

  struct shared_parts {
    std::byte* data;
    DEEPSEEK_HOST_DEVICE x_tile x(int stage) const { return {data + stage * x_tile::bytes}; }
    DEEPSEEK_HOST_DEVICE w_tile w(int stage) const {
      return {data + stages * x_tile::bytes + stage * w_tile::bytes};
    }
    DEEPSEEK_HOST_DEVICE control& c() const {
      return *reinterpret_cast<control*>(data + stages * stage_bytes);
    }
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE static void make_barriers(const Block& block, control& c) {
    bulk::make_all(block, c.full, 1);
    bulk::make_all(block, c.empty, bulk::reading_warps);
  }

  // One warp: has all steps of the block's tiles fetched.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void produce(const Block& block, const shared_parts& at) const {
    const row_tiles cut = p.cut(rows);
    place next;
    for (index_t t = block.index(); t < tiles(); t += block.count()) {
      const block_place where = block_place::bunched(t, cut.slots(), stretches());
      const row_tile tile = cut.find(block, where.slot);
      if (tile.empty()) continue;
      const task own{tile.first, tile.end, where.across * group_outputs};
      for (index_t k = 0; k < p.w.in; k += group_depth, next.advance()) {
        bulk::wait_empty(block, at.c().empty, next);
        if (block.lane() == 0) fetch(block, at, next.stage, own, tile.group, k);
      }
    }
    bulk::wait_empty(block, at.c().empty, next);
    if (block.lane() == 0) {
      at.c().of[next.stage].first = -1;
      bulk::arrive(block, at.c().full[next.stage]);
    }
  }
  // One lane.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void fetch(const Block& block, const shared_parts& at, int stage,
                                  const task& own, index_t e, index_t k) const {
    bulk::barrier& full = at.c().full[stage];
    at.c().of[stage] = own;
    bulk::arrive_expecting(block, full, stage_bytes);
    bulk::copy_tiles(block, at.x(stage), x, {{k, own.first, 0}}, full);
    bulk::copy_tiles(block, at.w(stage), w, weights::place(e, own.n, k), full);
  }

  DEEPSEEK_HOST_DEVICE int steps() const {
    return static_cast<int>((p.w.in + group_depth - 1) / group_depth);
  }
  // Of this thread's group, in the tile.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static int first_row(const Block& block) {
    return bulk::consumer_group(block) * group_rows;
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void consume(const Block& block, const shared_parts& at) const {
    place next;
    for (;;) {
      bulk::wait_full(block, at.c().full, next);
      const task own = at.c().of[next.stage];
      if (own.first < 0) return;
      if (own.first + first_row(block) < own.end) {
        sums c = {};
        multiply(block, at, next, c);
        store(block, own, c);
      } else {
        pass(block, at, next);
      }
    }
  }
  // A tile in which this group has no rows.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void pass(const Block& block, const shared_parts& at, place& next) const {
    for (int j = 0; j < steps(); ++j, next.advance()) {
      bulk::wait_full(block, at.c().full, next);
      bulk::release(block, at.c().empty[next.stage]);
    }
  }
  // c += the group's rows of x times W.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void multiply(const Block& block, const shared_parts& at, place& next,
                                     sums& c) const {
    int before = 0;
    for (int j = 0; j < steps(); ++j, next.advance()) {
      bulk::wait_full(block, at.c().full, next);
      add_step(block, at, next.stage, c);
      warp_group::wait_for_earlier(block);
      if (j > 0) bulk::release(block, at.c().empty[before]);
      before = next.stage;
    }
    warp_group::wait(block, c);
    bulk::release(block, at.c().empty[before]);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void add_step(const Block& block, const shared_parts& at, int stage,
                                            sums& c) {
    const std::byte* const mine = at.x(stage).data + first_row(block) * warp_group::row_bytes;
    const warp_group::matrix left = warp_group::rows_of_sums(block, mine);
    warp_group::fence(block, c);
    DEEPSEEK_UNROLL
    for (int i = 0; i < group_depth / 16; ++i) {
      warp_group::multiply_add(block, c, left + i * 32, weights::right(block, at.w(stage), i),
                               true);
    }
    warp_group::commit(block);
  }

  // Rows of this expert alone. A quad of lanes has 8 outputs of a row in each part: 16 bytes at
  // once where y allows.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void store(const Block& block, const task& own, const sums& c) const {
    const index_t first = own.first + first_row(block) + block.warp() % 4 * 16;
    if (first >= own.end) return;
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      const index_t m = first + block.lane() / 4 + 8 * h;
      if constexpr (sizeof(typename P::y_type) == 2) {
        if (p.y_whole && p.w.out % 8 == 0) {
          store_packets(block, own, m, h, c);
          continue;
        }
      }
      if (m >= own.end) continue;
      DEEPSEEK_UNROLL
      for (int i = 0; i < 2 * parts; ++i) {
        const index_t n = own.n + i / 2 * 8 + block.lane() % 4 * 2 + i % 2;
        if (n < p.w.out) p.store(m, n, c[i / 2].x[2 * h + i % 2]);
      }
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void store_packets(const Block& block, const task& own, index_t m, int h,
                                          const sums& c) const {
    DEEPSEEK_UNROLL
    for (int i = 0; i < parts; i += 4) {
      packet eight;  // of row m, after turning: part i + lane % 4
      DEEPSEEK_UNROLL
      for (int j = 0; j < 4; ++j) {
        const index_t n = own.n + (i + j) * 8 + block.lane() % 4 * 2;
        const bool there = n < p.w.out;
        eight.word[j] =
            mma::pack<typename P::y_type>(there ? p.biased(n, c[i + j].x[2 * h]) : 0.0F,
                                          there ? p.biased(n + 1, c[i + j].x[2 * h + 1]) : 0.0F);
      }
      turn_quad(block, eight);
      const index_t n = own.n + (i + block.lane() % 4) * 8;
      if (m < own.end && n < p.w.out) store_packet(eight, &p.y(m, n));
    }
  }
};

// Whether warp groups took it.
template <class B, class P>
bool run_group_product(const B& b, const P& p) {
  if constexpr (bulk::TileBackend<B> && GroupWeights<typename P::form_type>) {
    using kernel = group_product<P>;
    if (!b.has_warp_groups()) return false;
    const bulk::tile_source rows = kernel::rows_of(p);
    const bulk::tile_source weights = kernel::weights::source(p.w, p.cut(1).groups());
    if (!bulk::can_map(rows) || !bulk::can_map(weights)) return false;
    b.launch(kernel{p, b.tile_map(rows), b.tile_map(weights), b.multiprocessors()});
    return true;
  } else {
    return false;
  }
}

}  // namespace cuda_tensor

}  // namespace deepseek
