// SPDX-License-Identifier: Apache-2.0
// The simulated device: runs a kernel of the cuda backend block by block, every thread a fiber, on
// the CPU. It knows what a GPU punishes: a barrier or a shuffle that some thread does not reach is
// an error with its numbers, shared memory is poisoned before each block and ends where the launch
// says, and threads are taken in another order on each turn, so that a missing sync shows.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"

#include "simulation/fibers.hpp"
#include "simulation/warp_groups.hpp"

#include <cstring>
#include <exception>
#include <utility>

namespace simulation {

enum class waits { no, for_warp, for_group, for_block, for_barrier };
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

class machine {
 public:
  template <class Kernel>
  void run(const Kernel& kernel) {
    static_assert(Kernel::threads % ds::warp_size == 0 && Kernel::threads <= 1024,
                  "threads of a block are a multiple of 32 up to 1024");
    const std::size_t bytes = ds::shared_bytes_of(kernel);
    state_.size = Kernel::threads;
    state_.count = kernel.blocks();
    if (state_.lanes.size() < static_cast<std::size_t>(state_.size)) {
      state_.lanes = std::vector<lane_state>(static_cast<std::size_t>(state_.size));
      state_.warps = std::vector<warp_state>(static_cast<std::size_t>(state_.size / 32));
    }
    ds::require(bytes <= most_shared, ds::error_code::limit, "simulation: a block asks for ", bytes,
                " bytes of shared memory; sm_90 has ", most_shared);
    for (state_.index = 0; state_.index < state_.count; ++state_.index) run_block(kernel, bytes);
    ++launches_;
  }
  ds::index_t launches() const { return launches_; }

 private:
  static constexpr std::size_t most_shared = 227 << 10, margin = 1024;

  template <class Kernel>
  struct thread {
    const Kernel* kernel;
    block_state* state;
    int rank;
    static void body(void* self) {
      const thread me = *static_cast<const thread*>(self);
      try {
        (*me.kernel)(block(*me.state, me.rank));
      } catch (...) {  // none leaves a fiber
        me.state->error = std::current_exception();
      }
    }
  };

  template <class Kernel>
  void run_block(const Kernel& kernel, std::size_t bytes) {
    state_.shared.assign(bytes + margin, std::byte{0xff});
    std::memset(state_.reserved, 0xff, sizeof state_.reserved);
    state_.bytes = bytes;
    state_.groups = {};
    std::vector<thread<Kernel>> threads;
    for (int i = 0; i < state_.size; ++i) threads.push_back({&kernel, &state_, i});
    for (int i = 0; i < state_.size; ++i) {
      lane_state& lane = state_.lanes[static_cast<std::size_t>(i)];
      lane.on = waits::no;
      lane.turn = 0;
      lane.copies.clear();
      lane.group = {};
      lane.group.registers = launch_registers(state_.size);
      lane.run.start(&thread<Kernel>::body, &threads[static_cast<std::size_t>(i)]);
    }
    while (turn()) release();
    check_groups();
    for (std::size_t i = bytes; i < bytes + margin; ++i) {
      ds::require(state_.shared[i] == std::byte{0xff}, ds::error_code::device,
                  "simulation: a write beyond the ", bytes, " bytes of shared memory asked for");
    }
  }
  // Every thread that may run runs until it waits or ends; false: all have ended.
  bool turn() {
    int ran = 0, ended = 0;
    const bool backwards = (turns_++ & 1) != 0;
    for (int i = 0; i < state_.size; ++i) {
      auto& lane = state_.lanes[static_cast<std::size_t>(backwards ? state_.size - 1 - i : i)];
      if (!lane.run.ended() && lane.on == waits::no) {
        lane.run.resume();
        ++ran;
        if (state_.error) std::rethrow_exception(std::exchange(state_.error, nullptr));
      }
      ended += lane.run.ended() ? 1 : 0;
    }
    if (ended == state_.size) return false;
    if (ran == 0 && land_a_tile()) return true;
    ds::require(ran > 0, ds::error_code::device, "simulation: block ", state_.index,
                " stands: ", ended, " of ", state_.size,
                " threads have ended or wait elsewhere; all must reach a sync or shuffle");
    return true;
  }
  // Of the tiles that have not arrived the first, then the last.
  bool land_a_tile() {
    auto& tiles = state_.groups.tiles;
    if (tiles.empty()) return false;
    const auto which = turns_ % 2 == 0 ? tiles.begin() : tiles.end() - 1;
    which->land(state_.window(), state_.groups.barriers);
    tiles.erase(which);
    return true;
  }
  void check_groups() {
    int registers = 0, products = 0;
    for (int i = 0; i < state_.size; ++i) {
      const auto& lane = state_.lanes[static_cast<std::size_t>(i)].group;
      registers += lane.registers;
      products += lane.products.empty() ? 0 : 1;
    }
    ds::require(products == 0 && state_.groups.tiles.empty(), ds::error_code::device,
                "simulation: a block ends with ", products, " threads' products and ",
                state_.groups.tiles.size(), " tiles under way");
    ds::require(registers <= state_.size * launch_registers(state_.size), ds::error_code::device,
                "simulation: its threads have ", registers, " registers, more than at the launch");
  }
  void release() {
    release_groups();
    int at_block = 0;
    for (int w = 0; w < state_.size / ds::warp_size; ++w) {
      int at_warp = 0;
      for (int i = 0; i < ds::warp_size; ++i) {
        const auto& lane = at(w, i);
        at_warp += !lane.run.ended() && lane.on == waits::for_warp ? 1 : 0;
        at_block += !lane.run.ended() && lane.on == waits::for_block ? 1 : 0;
      }
      if (at_warp < ds::warp_size) continue;
      for (int i = 0; i < ds::warp_size; ++i) at(w, i).on = waits::no;
    }
    if (at_block < state_.size) return;
    for (int i = 0; i < state_.size; ++i) state_.lanes[static_cast<std::size_t>(i)].on = waits::no;
  }
  void release_groups() {
    for (int g = 0; g < state_.size / ds::warp_group::size; ++g) {
      int waiting = 0;
      for (int i = 0; i < ds::warp_group::size; ++i) {
        const auto& lane = at(4 * g, i);
        waiting += !lane.run.ended() && lane.on == waits::for_group ? 1 : 0;
      }
      if (waiting < ds::warp_group::size) continue;
      for (int i = 0; i < ds::warp_group::size; ++i) at(4 * g, i).on = waits::no;
    }
    for (int i = 0; i < state_.size; ++i) {
      auto& lane = at(0, i);
      if (lane.on != waits::for_barrier) continue;
      if (state_.groups.barriers.at(lane.group.barrier).over(lane.group.parity)) {
        lane.on = waits::no;
      }
    }
  }
  lane_state& at(int warp, int lane) {
    return state_.lanes[static_cast<std::size_t>(warp * ds::warp_size + lane)];
  }

  block_state state_;
  unsigned turns_ = 0;
  ds::index_t launches_ = 0;
};

}  // namespace simulation
