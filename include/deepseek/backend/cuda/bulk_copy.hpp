// SPDX-License-Identifier: Apache-2.0
// Barriers in shared memory that count arrivals and bytes, and copies of whole tiles from device
// memory that report to them, on sm_90a (warp_group.hpp). A barrier is used again and again: phase
// 0, 1, 2, ..., each over when all arrivals and bytes that it expects have come; who waits says the
// parity of the phase, and a new barrier counts as after a phase of parity 1. A tile map says what
// a tensor of rank 3 of 16-bit elements looks like and which box of it a tile is; one thread copies
// a tile, rows of 64 elements swizzled as warp_group.hpp reads them, zeros outside the tensor.
// Source: PTX ISA 8.5, sections 9.7.13.15 (mbarrier) and 9.7.9.27 (cp.async.bulk.tensor).
#pragma once

#include "deepseek/backend/cuda/mma.hpp"

namespace deepseek::bulk {

// Elements of two bytes: the first extent's are neighbours.
struct tile_source {
  const void* data;
  index_t extents[3];
  index_t strides[2];  // bytes, of the second and third extent: multiples of 16
  int box[3];          // 64, then at most 256 each
};

// Whether a tile map can say it.
inline bool can_map(const tile_source& s) {
  bool can = reinterpret_cast<std::uintptr_t>(s.data) % 16 == 0;
  for (const index_t extent : s.extents) can = can && extent > 0 && extent <= index_t{1} << 31;
  for (const index_t stride : s.strides) {
    can = can && stride > 0 && stride % 16 == 0 && stride < index_t{1} << 40;
  }
  return can;
}

// What the hardware is told of it, made by the backend: b.tile_map(source).
struct tile_map {
  alignas(128) std::byte bytes[128];
};

// A backend whose device may have all this: has_warp_groups() says whether it does.
template <class B>
concept TileBackend = requires(const B& b, const tile_source& source) {
  { b.has_warp_groups() } -> std::same_as<bool>;
  { b.multiprocessors() } -> std::convertible_to<index_t>;
  { b.tile_map(source) } -> std::same_as<tile_map>;
};

struct barrier {
  std::uint64_t word;
};

// One thread; then all see it after barriers_made and a sync of the block.
template <class Block>
DEEPSEEK_HOST_DEVICE void make(const Block& block, barrier& b, int arrivals) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mma::instruction::shared_address(&b)),
      "r"(arrivals)
      : "memory");
#else
  if constexpr (requires { block.barrier_make(&b, arrivals); }) block.barrier_make(&b, arrivals);
#endif
}
template <class Block>
DEEPSEEK_HOST_DEVICE void barriers_made(const Block&) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
// What this thread wrote before is seen by who waits for the phase.
template <class Block>
DEEPSEEK_HOST_DEVICE void arrive(const Block& block, barrier& b) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mma::instruction::shared_address(&b))
      : "memory");
#else
  if constexpr (requires { block.barrier_arrive(&b, 0); }) block.barrier_arrive(&b, 0);
#endif
}
// The same; the phase expects `bytes` more of copies.
template <class Block>
DEEPSEEK_HOST_DEVICE void arrive_expecting(const Block& block, barrier& b, int bytes) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   mma::instruction::shared_address(&b)),
               "r"(bytes)
               : "memory");
#else
  if constexpr (requires { block.barrier_arrive(&b, bytes); }) block.barrier_arrive(&b, bytes);
#endif
}
// Until a phase of this parity is over.
template <class Block>
DEEPSEEK_HOST_DEVICE void wait(const Block& block, barrier& b, int parity) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  int over = 0;
  while (over == 0) {
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, "
        "p;}"
        : "=r"(over)
        : "r"(mma::instruction::shared_address(&b)), "r"(parity)
        : "memory");
  }
#else
  if constexpr (requires { block.barrier_wait(&b, parity); }) block.barrier_wait(&b, parity);
#endif
}

// Where a tile begins: its place in each extent.
struct tile_place {
  index_t at[3];
};
// One thread: the box at `place`, to `to` (a multiple of 1024), reported to b in bytes.
template <class Block>
DEEPSEEK_HOST_DEVICE void copy_tile(const Block& block, void* to, const tile_map& map,
                                    const tile_place& place, barrier& b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3, %4}], [%5];" ::"r"(mma::instruction::shared_address(to)),
      "l"(&map), "r"(static_cast<int>(place.at[0])), "r"(static_cast<int>(place.at[1])),
      "r"(static_cast<int>(place.at[2])), "r"(mma::instruction::shared_address(&b))
      : "memory");
#else
  if constexpr (requires { block.copy_tile(to, map, place, &b); }) {
    block.copy_tile(to, map, place, &b);
  }
#endif
}

}  // namespace deepseek::bulk
