// SPDX-License-Identifier: Apache-2.0
// A block of the simulated device (machine.hpp): what its threads share, and one thread's view of
// it, the Block that kernels are run over.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"

#include "simulation/clusters.hpp"
#include "simulation/fibers.hpp"
#include "simulation/warp_groups.hpp"

#include <cstring>
#include <exception>

namespace simulation {

enum class waits { no, for_warp, for_group, for_block, for_barrier, for_cluster };
constexpr std::size_t widest_exchange = 256;  // bytes of a lane

// A copy of 16 bytes that has begun.
struct late_copy {
  void* to;
  const void* from;
  bool there;
  void land() const { there ? std::memcpy(to, from, 16) : std::memset(to, 0, 16); }
};
struct lane_state {
  fiber run;
  waits on = waits::no;
  unsigned turn = 0;                           // of this lane's exchanges
  std::vector<std::vector<late_copy>> copies;  // groups under way, the open one last
  lane_group_state group;
};
struct warp_state {
  alignas(64) std::byte slots[2][ds::warp_size][widest_exchange];
};

// What all threads of the block that runs now share.
struct block_state {
  int size = 0;
  ds::index_t index = 0, count = 0;
  std::vector<lane_state> lanes;
  std::vector<warp_state> warps;
  std::vector<std::byte> shared;  // with a margin after the part that the kernel asked for
  alignas(64) std::byte reserved[ds::reserved_bytes];
  group_state groups;
  std::size_t bytes = 0;  // of shared that the kernel asked for
  std::exception_ptr error;
  cluster_state* cluster = nullptr;
  int cluster_rank = 0;
  shared_window window() { return {shared.data(), bytes}; }
};

// One thread's view of its block: models deepseek::Block.
class block : public ds::block_collectives<block>, public group_operations<block> {
 public:
  block(block_state& state, int rank) : state_(state), rank_(rank) {}

  int rank() const { return rank_; }
  int size() const { return state_.size; }
  ds::index_t index() const { return state_.index; }
  ds::index_t count() const { return state_.count; }
  void sync() const { wait(waits::for_block); }
  void sync_warp() const { wait(waits::for_warp); }
  std::byte* shared() const { return state_.shared.data(); }
  std::byte* reserved() const { return state_.reserved; }

  template <class X>
  X shuffle(X x, int from) const {
    X all[ds::warp_size];
    gather(x, all);
    return all[from & (ds::warp_size - 1)];
  }
  template <class X>
  X shuffle_xor(X x, int mask) const {
    return shuffle(x, lane() ^ mask);
  }
  std::uint32_t ballot(bool yes) const {
    bool all[ds::warp_size];
    gather(yes, all);
    std::uint32_t bits = 0;
    for (int i = 0; i < ds::warp_size; ++i) bits |= all[i] ? 1U << i : 0U;
    return bits;
  }
  // What every lane of the warp has: how tensor-core instructions are simulated.
  template <class X>
  void gather(const X& mine, X* all) const {
    static_assert(sizeof(X) <= widest_exchange && std::is_trivially_copyable_v<X>);
    auto& slots = state_.warps[static_cast<std::size_t>(warp())].slots[own().turn++ % 2];
    std::memcpy(slots[lane()], &mine, sizeof(X));
    wait(waits::for_warp);
    for (int i = 0; i < ds::warp_size; ++i) std::memcpy(all + i, slots[i], sizeof(X));
  }

  // Copies to shared memory: every second lane's land at once, the others' not before the wait.
  void copy_later(void* to, const void* from, bool there) const {
    ds::require(reinterpret_cast<std::uintptr_t>(to) % 16 == 0 &&
                    reinterpret_cast<std::uintptr_t>(from) % 16 == 0,
                ds::error_code::device, "simulation: a copy of 16 bytes is not aligned");
    const late_copy copy{to, from, there};
    if ((rank_ + state_.index) % 2 == 0) return copy.land();
    if (own().copies.empty()) own().copies.emplace_back();
    own().copies.back().push_back(copy);
  }
  void commit_copies() const {
    if (own().copies.empty()) own().copies.emplace_back();
    own().copies.emplace_back();
  }
  void wait_copies(int left) const {
    auto& groups = own().copies;
    while (groups.size() > static_cast<std::size_t>(left) + 1) {
      for (const late_copy& copy : groups.front()) copy.land();
      groups.erase(groups.begin());
    }
  }

  // Clusters.
  void cluster_sync() const { wait(waits::for_cluster); }
  template <class X>
  X cluster_read(const X* mine, int rank) const {
    X x{};
    const auto offset = reinterpret_cast<const std::byte*>(mine) - shared();
    state_.cluster->read(state_.cluster_rank, rank, offset, sizeof(X), &x);
    return x;
  }

  // Atomics: all threads run on one.
  template <class X>
  X atomic_add(X* at, X x) const {
    const X before = *at;
    *at = before + x;
    return before;
  }
  template <class X>
  X atomic_max(X* at, X x) const {
    const X before = *at;
    if (x > before) *at = x;
    return before;
  }
  template <class X>
  X atomic_exchange_if(X* at, X expected, X x) const {
    const X before = *at;
    if (before == expected) *at = x;
    return before;
  }

  // What group_operations asks.
  group_state& groups() const { return state_.groups; }
  lane_group_state& own_group() const { return own().group; }
  shared_window window() const { return state_.window(); }
  void wait_for_group() const { wait(waits::for_group); }
  void wait_for_barrier(const void* at, int parity) const {
    own().group.barrier = at;
    own().group.parity = parity;
    wait(waits::for_barrier);
  }

 private:
  lane_state& own() const { return state_.lanes[static_cast<std::size_t>(rank_)]; }
  void wait(waits on) const {
    own().on = on;
    own().run.pause();
  }
  block_state& state_;
  int rank_;
};

}  // namespace simulation
