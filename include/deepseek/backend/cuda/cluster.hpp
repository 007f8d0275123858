// SPDX-License-Identifier: Apache-2.0
// Clusters: 2, 4 or 8 neighbouring blocks of a launch that run at the same time and read each
// other's shared memory, on compute capability 9.0 and later. A kernel asks for them by
//   int cluster_blocks() const;     1, 2, 4 or 8; blocks() is a multiple of it
// and block i has rank i % cluster_blocks() in its cluster.
//   cluster::sync(block)            all threads of all blocks of the cluster
//   cluster::read(block, p, rank)   *p as it stands in the shared memory of the block of that rank:
//                                   between a sync after it was written and a sync before it is
//                                   written again, or before its block ends
// cluster_team: the threads of all blocks as one team (core/team.hpp). Its sums have the same bits
// in every block and each run: threads, then blocks in order.
// Where not compiled for 9.0 or later, `compiled` is false and nothing here may run. On the
// simulated device it is the block's cluster_... functions. Source: PTX ISA 8.5 (barrier.cluster,
// mapa, ld.shared::cluster).
#pragma once

#include "deepseek/backend/cuda/mma.hpp"

namespace deepseek {

namespace cluster {

inline constexpr int most_blocks = 8;  // what every device with clusters has

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool compiled = false;
#else
inline constexpr bool compiled = true;
#endif

template <class Block>
DEEPSEEK_HOST_DEVICE void sync([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH__)
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
#else
  if constexpr (requires { block.cluster_sync(); }) block.cluster_sync();
#endif
}

template <class Block, class X>
DEEPSEEK_HOST_DEVICE X read([[maybe_unused]] const Block& block, const X* p,
                            [[maybe_unused]] int rank) {
  static_assert(std::is_trivially_copyable_v<X> && sizeof(X) % 4 == 0);
#if defined(__CUDA_ARCH__)
  X x{};
#if __CUDA_ARCH__ >= 900
  constexpr int words = sizeof(X) / 4;
  std::uint32_t parts[words];
  std::uint32_t there = 0;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(there)
      : "r"(mma::instruction::shared_address(p)), "r"(rank));
  for (int i = 0; i < words; ++i) {
    asm volatile("ld.shared::cluster.u32 %0, [%1];"
                 : "=r"(parts[i])
                 : "r"(there + 4U * static_cast<unsigned>(i))
                 : "memory");
  }
  memcpy(&x, parts, sizeof(X));
#endif
  return x;
#else
  if constexpr (requires { block.cluster_read(p, rank); }) {
    return block.cluster_read(p, rank);
  } else {
    return *p;
  }
#endif
}

}  // namespace cluster

template <class Kernel>
int cluster_blocks_of(const Kernel& kernel) {
  if constexpr (requires { kernel.cluster_blocks(); }) {
    return kernel.cluster_blocks();
  } else {
    return 1;
  }
}

// A backend whose device may have clusters: largest_cluster() blocks, 1 where it has none.
template <class B>
concept ClusterBackend = requires(const B& b) {
  { b.largest_cluster() } -> std::same_as<int>;
};

// The team has two places in the shared memory of each block, used in turn: who writes one again
// has passed the sync of the other, which comes after all reads of the first.
inline constexpr std::size_t cluster_place = 16, cluster_places = 2 * cluster_place;  // bytes
template <class Machine>
class cluster_team {
 public:
  DEEPSEEK_HOST_DEVICE cluster_team(const Machine& block, int blocks)
      : block_(block), blocks_(blocks), at_(static_cast<int>(block.index() % blocks)) {}
  DEEPSEEK_HOST_DEVICE int rank() const { return at_ * block_.size() + block_.rank(); }
  DEEPSEEK_HOST_DEVICE int size() const { return blocks_ * block_.size(); }
  DEEPSEEK_HOST_DEVICE void sync() const { cluster::sync(block_); }
  template <class X>
  DEEPSEEK_HOST_DEVICE X sum(X x) const {
    return combine(x, plus{});
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X max(X x) const {
    return combine(x, larger{});
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X broadcast(X x) const {
    const X* const place = put(x);
    return cluster::read(block_, place, 0);
  }
  // Each lane reads one block's part, so that they travel at the same time.
  template <class X, class Op>
  DEEPSEEK_HOST_DEVICE X combine(X x, const Op& op) const {
    const X* const place = put(block_.combine(x, op));
    const X part = cluster::read(block_, place, block_.lane() % blocks_);
    X all = block_.shuffle(part, 0);
    for (int i = 1; i < blocks_; ++i) all = op(all, block_.shuffle(part, i));
    return all;
  }
  // The last of it: nobody ends while others read its memory.
  DEEPSEEK_HOST_DEVICE void leave() const { cluster::sync(block_); }

 private:
  // x of each block's thread 0, where all may read it.
  template <class X>
  DEEPSEEK_HOST_DEVICE const X* put(X x) const {
    static_assert(sizeof(X) <= cluster_place);
    turn_ ^= 1;
    X* const place =
        reinterpret_cast<X*>(block_.shared() + static_cast<std::size_t>(turn_) * cluster_place);
    if (block_.rank() == 0) *place = x;
    cluster::sync(block_);
    return place;
  }

  const Machine& block_;
  int blocks_, at_;
  mutable int turn_ = 0;
};

}  // namespace deepseek
