// SPDX-License-Identifier: Apache-2.0
// Clusters of blocks, simulated: what a block reads of another's shared memory, sums over all
// threads of a cluster; misuse is an error.
#include "deepseek/backend/cuda/cluster.hpp"

#include "simulation/device.hpp"
#include "support/throws.hpp"

#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
namespace cluster = deepseek::cluster;

namespace {

enum class mistake {
  none,
  no_barrier_at_first,
  no_barrier_after_writing,
  no_barrier_at_last,
  writes_while_read,
  never_written,
  beyond_the_memory,
  no_such_block,
  one_thread_misses,
  one_block_misses
};

// to[i]: what thread i read of the next block, which wrote 10 r + turn for rank r.
struct pass_round {
  static constexpr int threads = 64;
  int shared_by;
  ds::index_t clusters;
  std::int32_t* to;
  mistake what = mistake::none;

  ds::index_t blocks() const { return shared_by * clusters; }
  int cluster_blocks() const { return shared_by; }
  static std::size_t shared_bytes() { return 16; }

  template <class Block>
  void operator()(const Block& block) const {
    auto* const mine = reinterpret_cast<std::int32_t*>(block.shared());
    const int at = static_cast<int>(block.index() % shared_by), next = (at + 1) % shared_by;
    if (what == mistake::no_barrier_at_first) (void)cluster::read(block, mine, next);
    std::int32_t sum = 0;
    for (int turn = 0; turn < 3; ++turn) {
      if (block.rank() == 5 && what != mistake::never_written) *mine = 10 * at + turn;
      if (what != mistake::no_barrier_after_writing || turn == 0) cluster::sync(block);
      sum += cluster::read(block, mine + (what == mistake::beyond_the_memory ? 4 : 0),
                           what == mistake::no_such_block ? shared_by : next);
      if (what != mistake::writes_while_read && turn < 2) cluster::sync(block);
    }
    to[block.index() * threads + block.rank()] = sum;
    if (what == mistake::one_thread_misses && block.rank() == 7 && at == 1) return;
    if (what == mistake::one_block_misses && at == 1) return;
    if (what != mistake::no_barrier_at_last) cluster::sync(block);
  }
};

std::vector<std::int32_t> passed_round(int shared_by, ds::index_t clusters, mistake what) {
  std::vector<std::int32_t> to(static_cast<std::size_t>(shared_by * clusters * 64));
  simulation::host_device{}.launch(pass_round{shared_by, clusters, to.data(), what});
  return to;
}

// to: sum, largest and worker 0's of what the threads of each cluster have, from each thread.
struct whole_team {
  static constexpr int threads = 96;
  int shared_by;
  double* to;

  ds::index_t blocks() const { return 2 * shared_by; }
  int cluster_blocks() const { return shared_by; }
  static std::size_t shared_bytes() { return ds::cluster_places; }

  template <class Block>
  void operator()(const Block& block) const {
    const ds::cluster_team team(block, shared_by);
    double* const at = to + (block.index() * threads + block.rank()) * 4;
    const double x = team.rank() + 1;
    at[0] = team.sum(x);
    at[1] = team.max(-static_cast<float>(x));
    at[2] = team.broadcast(x * 7);
    at[3] = team.sum(std::int32_t{1});
    team.leave();
  }
};

}  // namespace

TEST_CASE("clusters: a block reads its neighbour's shared memory") {
  for (const int size : {2, 4, 8}) {
    const auto got = passed_round(size, 3, mistake::none);
    bool right = true;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const int at = static_cast<int>(i / 64) % size;
      right = right && got[i] == 30 * ((at + 1) % size) + 3;
    }
    CHECK(right);
  }
}

TEST_CASE("clusters: sums, maxima and broadcasts over all threads") {
  for (const int size : {2, 4, 8}) {
    const int n = size * 96;
    std::vector<double> got(static_cast<std::size_t>(2 * n * 4));
    simulation::host_device{}.launch(whole_team{size, got.data()});
    bool right = true;
    for (std::size_t i = 0; i < got.size(); i += 4) {
      right = right && got[i] == n * (n + 1) / 2 && got[i + 1] == -1 && got[i + 2] == 7 &&
              got[i + 3] == n;
    }
    CHECK(right);
  }
}

TEST_CASE("clusters: misuse is an error") {
  const auto run = [](mistake what) { passed_round(2, 1, what); };
  const auto code = ds::error_code::device;
  CHECK_ERROR(code, "before all have begun", run(mistake::no_barrier_at_first));
  CHECK_ERROR(code, "has written since the last barrier", run(mistake::no_barrier_after_writing));
  CHECK_ERROR(code, "since the last barrier", run(mistake::writes_while_read));
  CHECK_ERROR(code, "of a cluster", "shared memory", run(mistake::no_barrier_at_last));
  CHECK_ERROR(code, "4 bytes at 16 of another block's 16", run(mistake::beyond_the_memory));
  CHECK_ERROR(code, "block 2 of a cluster of 2", run(mistake::no_such_block));
  CHECK_ERROR(code, "of a cluster", "shared memory", run(mistake::one_thread_misses));
  CHECK_ERROR(code, "of a cluster", "shared memory", run(mistake::one_block_misses));
  CHECK(passed_round(2, 1, mistake::never_written)[0] == -3);  // poison
  CHECK_ERROR(code, "3 blocks in clusters of 3", passed_round(3, 1, mistake::none));
}
