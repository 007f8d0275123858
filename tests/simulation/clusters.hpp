// SPDX-License-Identifier: Apache-2.0
// Clusters of blocks, simulated: what a block reads of another's shared memory must have been there
// since before the last barrier of the cluster and stay until the next, the other must have begun
// and not have ended. Writes are seen by comparing with a copy made at each barrier.
#pragma once

#include "deepseek/backend/cuda/cluster.hpp"
#include "deepseek/core/error.hpp"

#include <cstring>
#include <vector>

namespace simulation {

namespace ds = deepseek;

class cluster_state {
 public:
  struct member {
    const std::byte* shared;
    std::size_t bytes;
    std::vector<std::byte> copy;  // as it was at the last barrier
    std::vector<bool> read;       // bytes that other blocks have read since
    bool ended;                   // a thread of it
  };

  void begin() {
    members_.clear();
    barriers_ = 0;
  }
  void add(const std::byte* shared, std::size_t bytes) {
    members_.push_back({shared, bytes, {}, {}, false});
  }
  int size() const { return static_cast<int>(members_.size()); }

  // All threads of all blocks are here.
  void barrier() {
    for (member& m : members_) {
      require_unchanged(m);
      m.copy.assign(m.shared, m.shared + m.bytes);
      m.read.assign(m.bytes, false);
    }
    ++barriers_;
  }
  // `bytes` bytes at `offset` of the shared memory of block `rank`, for block `by`.
  void read(int by, int rank, std::ptrdiff_t offset, std::size_t bytes, void* to) {
    ds::require(rank >= 0 && rank < size(), ds::error_code::device, "simulation: block ", rank,
                " of a cluster of ", size());
    member& m = members_[static_cast<std::size_t>(rank)];
    const auto first = static_cast<std::size_t>(offset);
    ds::require(offset >= 0 && first + bytes <= m.bytes, ds::error_code::device,
                "simulation: a read of ", bytes, " bytes at ", offset, " of another block's ",
                m.bytes);
    ds::require(barriers_ > 0, ds::error_code::device, "simulation: block ", by,
                " of a cluster reads before all have begun; it needs a barrier");
    ds::require(!m.ended, ds::error_code::device, "simulation: block ", by,
                " of a cluster reads shared memory of block ", rank, ", which has ended");
    ds::require(std::memcmp(m.copy.data() + first, m.shared + first, bytes) == 0,
                ds::error_code::device, "simulation: block ", by, " of a cluster reads what block ",
                rank, " has written since the last barrier");
    std::memcpy(to, m.shared + first, bytes);
    for (std::size_t i = first; i < first + bytes; ++i) m.read[i] = m.read[i] || by != rank;
  }
  // A thread of block `rank` has ended.
  void end(int rank) {
    member& m = members_[static_cast<std::size_t>(rank)];
    m.ended = true;
    for (const bool read : m.read) {
      ds::require(!read, ds::error_code::device, "simulation: block ", rank,
                  " of a cluster ends while others read its shared memory; a barrier is missing");
    }
  }

 private:
  static void require_unchanged(const member& m) {
    for (std::size_t i = 0; i < m.read.size(); ++i) {
      ds::require(!m.read[i] || m.shared[i] == m.copy[i], ds::error_code::device,
                  "simulation: byte ", i,
                  " of a block's shared memory was written while the cluster read it");
    }
  }

  std::vector<member> members_;
  unsigned barriers_ = 0;
};

}  // namespace simulation
