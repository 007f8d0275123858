// SPDX-License-Identifier: Apache-2.0
// What kernels of warp groups share: tiles in shared memory as tile maps fill and matrices read
// them (bulk_copy.hpp, warp_group.hpp), a ring of stages between the warp that has tiles fetched
// and those that multiply, and who of a block does which. Stage s has a barrier `full` of one
// arrival and the tiles' bytes, and one `empty` with an arrival of each warp that reads; in round r
// of the ring both have parity r mod 2, so who fills waits for parity ring_place::parity ^ 1, which
// a new barrier has behind it.
#pragma once

#include "deepseek/backend/cuda/bulk_copy.hpp"
#include "deepseek/backend/cuda/warp_group.hpp"

namespace deepseek::bulk {

// Rows of `Width` elements as tiles of 64 columns by Rows rows, each swizzled as warp groups read.
template <class T, int Width, int Rows>
struct column_tiles {
  using type = T;
  static constexpr int width = Width, parts = Width / 64;
  static constexpr int part_bytes = Rows * warp_group::row_bytes, bytes = parts * part_bytes;
  static_assert(Width % 64 == 0 && Rows % 8 == 0 && sizeof(T) == 2);
  std::byte* data;

  DEEPSEEK_HOST_DEVICE T* unit(int row, int unit) const {
    return reinterpret_cast<T*>(data + unit / 8 * part_bytes + row * warp_group::row_bytes) +
           mma::swizzled(row, unit % 8, 8) * 8;
  }
};

// Which stage of a ring comes next, and in which parity its barriers are.
template <int Stages>
struct ring_place {
  int stage = 0, parity = 0;
  DEEPSEEK_HOST_DEVICE void advance() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1;
  }
  // The one that advanced to this.
  DEEPSEEK_HOST_DEVICE ring_place before() const {
    return stage > 0 ? ring_place{stage - 1, parity} : ring_place{Stages - 1, parity ^ 1};
  }
};

// The stage of `at`, filled or free to be filled.
template <int Stages, class Block>
DEEPSEEK_HOST_DEVICE void wait_full(const Block& block, barrier (&full)[Stages],
                                    const ring_place<Stages>& at) {
  wait(block, full[at.stage], at.parity);
}
template <int Stages, class Block>
DEEPSEEK_HOST_DEVICE void wait_empty(const Block& block, barrier (&empty)[Stages],
                                     const ring_place<Stages>& at) {
  wait(block, empty[at.stage], at.parity ^ 1);
}

// Where the first tile may begin: a kernel asks for core_bytes more than its tiles have.
template <class Block>
DEEPSEEK_HOST_DEVICE std::byte* first_core(const Block& block) {
  const std::uint32_t address = warp_group::shared_address(block, block.shared());
  constexpr std::uint32_t whole = warp_group::core_bytes;
  return block.shared() + (whole - address % whole) % whole;
}
// One lane: the tiles from `from` on, side by side in the map's first extent.
template <class Block, class Tiles>
DEEPSEEK_HOST_DEVICE void copy_tiles(const Block& block, const Tiles& to, const tile_map& map,
                                     tile_place from, barrier& full) {
  DEEPSEEK_UNROLL
  for (int i = 0; i < Tiles::parts; ++i) {
    copy_tile(block, to.data + i * Tiles::part_bytes, map, from, full);
    from.at[0] += 64;
  }
}
// The same; the barrier expects `bytes`, which are fewer than the tiles have where boxes are.
template <class Block, class Tiles>
DEEPSEEK_HOST_DEVICE void fetch(const Block& block, const Tiles& to, const tile_map& map,
                                const tile_place& from, int bytes, barrier& full) {
  arrive_expecting(block, full, bytes);
  copy_tiles(block, to, map, from, full);
}
// A warp that has read a stage.
template <class Block>
DEEPSEEK_HOST_DEVICE void release(const Block& block, barrier& empty) {
  block.sync_warp();
  if (block.lane() == 0) arrive(block, empty);
}

// A block of three groups: one warp of the first has tiles fetched, with `Fetching` registers a
// thread; the second and third group multiply, with `Multiplying`.
inline constexpr int ring_threads = 3 * warp_group::size, reading_warps = 8;
// One thread, for each stage of a ring: as many arrivals as it has readers, or one.
template <int Stages, class Block>
DEEPSEEK_HOST_DEVICE void make_all(const Block& block, barrier (&all)[Stages], int arrivals) {
  for (barrier& one : all) make(block, one, arrivals);
}
// Which of the two that multiply this thread's group is.
template <class Block>
DEEPSEEK_HOST_DEVICE int consumer_group(const Block& block) {
  return block.warp() / 4 - 1;
}
// One thread makes the barriers; then the roles are dealt out.
template <int Fetching, int Multiplying, class Block, class Make, class Produce, class Consume>
DEEPSEEK_HOST_DEVICE void deal_roles(const Block& block, const Make& make_barriers,
                                     const Produce& produce, const Consume& consume) {
  static_assert(Fetching + 2 * Multiplying <= 504, "three groups share 65536 registers");
  if (block.rank() == 0) {
    make_barriers();
    barriers_made(block);
  }
  block.sync();
  if (block.shuffle(block.warp(), 0) < 4) {
    warp_group::give_registers<Fetching>(block);
    if (block.warp() == 0) produce();
  } else {
    warp_group::take_registers<Multiplying>(block);
    consume();
  }
}

}  // namespace deepseek::bulk
