// SPDX-License-Identifier: Apache-2.0
// The simulated device: runs a kernel of the cuda backend block by block, or cluster by cluster,
// every thread a fiber, on the CPU. It knows what a GPU punishes: a barrier or a shuffle that some
// thread does not reach is an error with its numbers, shared memory is poisoned before each block
// and ends where the launch says, and threads are taken in another order on each turn, so that a
// missing sync shows.
#pragma once

#include "simulation/block.hpp"
#include "simulation/closed_stack.hpp"

#include <cstring>
#include <exception>
#include <memory>
#include <utility>

namespace simulation {

// A kernel whose type is forgotten: what a launch asks for, and what one of its threads does. All
// else of the machine is compiled once, not once a kernel.
struct any_kernel {
  const void* self;
  void (*thread)(const void* self, const block& b);
  int threads;
  std::size_t shared_bytes;
  ds::index_t blocks;
  int cluster_blocks;
};
template <class Kernel>
any_kernel any_kernel_of(const Kernel& kernel) {
  static_assert(Kernel::threads % ds::warp_size == 0 && Kernel::threads <= 1024,
                "threads of a block are a multiple of 32 up to 1024");
  return {&kernel,
          [](const void* self, const block& b) { (*static_cast<const Kernel*>(self))(b); },
          Kernel::threads,
          ds::shared_bytes_of(kernel),
          kernel.blocks(),
          ds::cluster_blocks_of(kernel)};
}

// A block on its way: its threads take turns until all have ended.
class running_block {
 public:
  // Block `index` of the kernel, which stays until the block has ended.
  void start(const any_kernel& kernel, ds::index_t index, cluster_state& cluster) {
    prepare(kernel.threads, kernel.shared_bytes);
    state_.index = index;
    state_.count = kernel.blocks;
    state_.cluster = &cluster;
    state_.cluster_rank = cluster.size();
    cluster.add(state_.shared.data(), state_.bytes);
    threads_.clear();
    for (int i = 0; i < state_.size; ++i) threads_.push_back({&kernel, &state_, i});
    for (int i = 0; i < state_.size; ++i) {
      lane_state& lane = state_.lanes[static_cast<std::size_t>(i)];
      lane.on = waits::no;
      lane.turn = 0;
      lane.copies.clear();
      lane.group = {};
      lane.group.registers = launch_registers(state_.size);
      lane.run.start(&thread::body, &threads_[static_cast<std::size_t>(i)]);
    }
    ended_ = 0;
  }
  bool ended() const { return ended_ == state_.size; }
  // Every thread that may run runs until it waits or ends; how many ran.
  int turn(bool backwards) {
    int ran = 0;
    for (int i = 0; i < state_.size; ++i) {
      auto& lane = state_.lanes[static_cast<std::size_t>(backwards ? state_.size - 1 - i : i)];
      if (lane.run.ended() || lane.on != waits::no) continue;
      lane.run.resume();
      ++ran;
      if (state_.error) std::rethrow_exception(std::exchange(state_.error, nullptr));
      if (!lane.run.ended()) continue;
      ++ended_;
      state_.cluster->end(state_.cluster_rank);
    }
    return ran;
  }
  // Of the tiles that have not arrived the first, or the last.
  bool land_a_tile(bool first) {
    auto& tiles = state_.groups.tiles;
    if (tiles.empty()) return false;
    const auto which = first ? tiles.begin() : tiles.end() - 1;
    which->land(state_.window(), state_.groups.barriers);
    tiles.erase(which);
    return true;
  }
  // Who waits for a warp, a group, a block or a barrier that is complete goes on.
  void release() {
    release_groups();
    for (int w = 0; w < state_.size / ds::warp_size; ++w) {
      release_if_all(waits::for_warp, w * ds::warp_size, ds::warp_size);
    }
    release_if_all(waits::for_block, 0, state_.size);
  }
  bool at_cluster() const { return waiting(waits::for_cluster, 0, state_.size) == state_.size; }
  void leave_cluster() { release_if_all(waits::for_cluster, 0, state_.size); }
  void stands() const {
    ds::fail(ds::error_code::device, "simulation: block ", state_.index, " stands: ", ended_,
             " of ", state_.size,
             " threads have ended or wait elsewhere; all must reach a sync or shuffle");
  }
  // What must hold when it has ended.
  void check() const {
    check_groups();
    for (std::size_t i = state_.bytes; i < state_.bytes + margin; ++i) {
      ds::require(state_.shared[i] == std::byte{0xff}, ds::error_code::device,
                  "simulation: a write beyond the ", state_.bytes,
                  " bytes of shared memory asked for");
    }
  }

 private:
  static constexpr std::size_t margin = 1024;

  struct thread {
    const any_kernel* kernel;
    block_state* state;
    int rank;
    static void body(void* self) {
      const thread me = *static_cast<const thread*>(self);
      try {
        me.kernel->thread(me.kernel->self, block(*me.state, me.rank));
      } catch (...) {  // none leaves a fiber
        me.state->error = std::current_exception();
      }
    }
  };

  void prepare(int size, std::size_t bytes) {
    state_.size = size;
    state_.bytes = bytes;
    if (state_.lanes.size() < static_cast<std::size_t>(size)) {
      state_.lanes = std::vector<lane_state>(static_cast<std::size_t>(size));
      state_.warps = std::vector<warp_state>(static_cast<std::size_t>(size / ds::warp_size));
    }
    state_.shared.assign(bytes + margin, std::byte{0xff});
    std::memset(state_.reserved, 0xff, sizeof state_.reserved);
    state_.groups = {};
    state_.error = nullptr;
  }
  int waiting(waits on, int first, int count) const {
    int n = 0;
    for (int i = first; i < first + count; ++i) {
      const auto& lane = state_.lanes[static_cast<std::size_t>(i)];
      n += !lane.run.ended() && lane.on == on ? 1 : 0;
    }
    return n;
  }
  void release_if_all(waits on, int first, int count) {
    if (waiting(on, first, count) < count) return;
    for (int i = first; i < first + count; ++i) {
      state_.lanes[static_cast<std::size_t>(i)].on = waits::no;
    }
  }
  void release_groups() {
    for (int g = 0; g < state_.size / ds::warp_group::size; ++g) {
      release_if_all(waits::for_group, g * ds::warp_group::size, ds::warp_group::size);
    }
    for (int i = 0; i < state_.size; ++i) {
      auto& lane = state_.lanes[static_cast<std::size_t>(i)];
      if (lane.on != waits::for_barrier) continue;
      if (state_.groups.barriers.at(lane.group.barrier).over(lane.group.parity)) {
        lane.on = waits::no;
      }
    }
  }
  void check_groups() const {
    int registers = 0, products = 0;
    std::size_t put = 0;
    for (int i = 0; i < state_.size; ++i) {
      const auto& lane = state_.lanes[static_cast<std::size_t>(i)].group;
      registers += lane.registers;
      products += lane.products.empty() ? 0 : 1;
      put += lane.put.size();
    }
    ds::require(products == 0 && state_.groups.tiles.empty(), ds::error_code::device,
                "simulation: a block ends with ", products, " threads' products and ",
                state_.groups.tiles.size(), " tiles under way");
    ds::require(put == 0, ds::error_code::device, "simulation: a block ends with ", put,
                " words put and not published");
    ds::require(registers <= state_.size * launch_registers(state_.size), ds::error_code::device,
                "simulation: its threads have ", registers, " registers, more than at the launch");
  }

  block_state state_;
  std::vector<thread> threads_;
  int ended_ = 0;
};

class machine {
 public:
  void run(const any_kernel& kernel) {
    const std::size_t bytes = kernel.shared_bytes;
    ds::require(bytes <= most_shared, ds::error_code::limit, "simulation: a block asks for ", bytes,
                " bytes of shared memory; sm_90 has ", most_shared);
    const int together = kernel.cluster_blocks;
    const bool fits = together == 1 || together == 2 || together == 4 || together == 8;
    ds::require(fits && kernel.blocks % together == 0, ds::error_code::device,
                "simulation: ", kernel.blocks, " blocks in clusters of ", together);
    while (blocks_.size() < static_cast<std::size_t>(together)) {
      blocks_.push_back(std::make_unique<running_block>());
    }
    for (ds::index_t first = 0; first < kernel.blocks; first += together) {
      run_cluster(kernel, first, together);
    }
    ++launches_;
    launches_of_clusters_ += together > 1 ? 1 : 0;
  }
  // The same where the host's stack is closed; the kernel stands on the heap.
  void run_beside_the_stack(const any_kernel& kernel) {
    std::make_unique<beside_the_stack<closed_run>>(closed_run{this, kernel})->run();
  }
  ds::index_t launches() const { return launches_; }
  ds::index_t launches_of_clusters() const { return launches_of_clusters_; }

 private:
  static constexpr std::size_t most_shared = (227 << 10) - ds::reserved_bytes;

  struct closed_run {
    machine* on;
    any_kernel kernel;
    void operator()() const { on->run(kernel); }
  };

  // Blocks first .. first + together - 1.
  void run_cluster(const any_kernel& kernel, ds::index_t first, int together) {
    cluster_.begin();
    running_ = together;
    for (int i = 0; i < together; ++i) at(i).start(kernel, first + i, cluster_);
    while (turn()) release();
    for (int i = 0; i < together; ++i) at(i).check();
  }
  // A turn of each block; false: all have ended.
  bool turn() {
    int ran = 0, ended = 0;
    const bool backwards = (turns_++ & 1) != 0;
    for (int i = 0; i < running_; ++i) {
      running_block& b = at(backwards ? running_ - 1 - i : i);
      ran += b.turn(backwards);
      ended += b.ended() ? 1 : 0;
    }
    if (ended == running_) return false;
    for (int i = 0; ran == 0 && i < running_; ++i) ran = at(i).land_a_tile(turns_ % 2 == 0) ? 1 : 0;
    for (int i = 0; ran == 0 && i < running_; ++i) {
      if (!at(i).ended()) at(i).stands();
    }
    return true;
  }
  void release() {
    int at_cluster = 0;
    for (int i = 0; i < running_; ++i) {
      at(i).release();
      at_cluster += at(i).at_cluster() ? 1 : 0;
    }
    if (at_cluster < running_) return;
    cluster_.barrier();
    for (int i = 0; i < running_; ++i) at(i).leave_cluster();
  }
  running_block& at(int i) { return *blocks_[static_cast<std::size_t>(i)]; }

  std::vector<std::unique_ptr<running_block>> blocks_;
  cluster_state cluster_;
  int running_ = 0;
  unsigned turns_ = 0;
  ds::index_t launches_ = 0, launches_of_clusters_ = 0;
};

}  // namespace simulation
