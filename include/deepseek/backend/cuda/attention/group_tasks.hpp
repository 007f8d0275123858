// SPDX-License-Identifier: Apache-2.0
// What attention's kernels of warp groups share: the tasks of a block that stays, the fetch of a
// task's queries, and the block as its consumers see it.
#pragma once

#include "deepseek/backend/cuda/attention/tensor_forward.hpp"
#include "deepseek/backend/cuda/tile_ring.hpp"

namespace deepseek::cuda_attention {

// The consumers of a block as a block of `Warps` warps, for what warps do on their own: all eight,
// or the four of each group.
template <class Machine, int Warps>
class consumer_warps {
 public:
  DEEPSEEK_HOST_DEVICE explicit consumer_warps(const Machine& block) : block_(block) {}
  DEEPSEEK_HOST_DEVICE int lane() const { return block_.lane(); }
  DEEPSEEK_HOST_DEVICE int warp() const { return (block_.warp() - 4) % Warps; }
  template <class X>
  DEEPSEEK_HOST_DEVICE X shuffle(X x, int from) const {
    return block_.shuffle(x, from);
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X shuffle_xor(X x, int mask) const {
    return block_.shuffle_xor(x, mask);
  }
  DEEPSEEK_HOST_DEVICE std::uint32_t ballot(bool yes) const { return block_.ballot(yes); }

 private:
  const Machine& block_;
};

// A task, and the keys that it is about: all of its sequence, or one range.
template <class Task>
struct key_work {
  Task at;
  index_t part, first, end;

  // Task t of `count`, of rows that are a tensor_forward.
  template <class Rows>
  DEEPSEEK_HOST_DEVICE static key_work of(const Rows& rows, index_t t, index_t count) {
    const index_t ranges = rows.parts.count, part = t % ranges;
    const Task at = rows.launch().task(t / ranges, count / ranges);
    if (ranges == 1) return {at, part, 0, at.seq.keys};
    const index_t first = part * range_keys;
    return {at, part, first, smaller{}(first + range_keys, at.seq.keys)};
  }
};

// One lane: the queries and heads of a task, whose tiles are cut as `cut` says.
template <class Block, class Tiles, class Task>
DEEPSEEK_HOST_DEVICE void fetch_queries(const Block& block, const Tiles& to,
                                        const bulk::tile_map& map, const head_parts& cut,
                                        const Task& at, bulk::barrier& full) {
  const int rows = static_cast<int>(cut.queries) * cut.heads;
  bulk::fetch(block, to, map, {{0, at.rows.first_head, at.seq.query + at.rows.first_query}},
              Tiles::parts * rows * warp_group::row_bytes, full);
}

// How a kernel has things fetched, each by one lane: keys (stage, task, row of the first), queries
// (task), values (as keys), or tells of a stage that a task is over.
template <class Keys, class Queries, class Values, class Over>
struct tile_fetches {
  Keys keys;
  Queries queries;
  Values values;
  Over over;
};
template <class Keys, class Queries, class Values, class Over>
tile_fetches(Keys, Queries, Values, Over) -> tile_fetches<Keys, Queries, Values, Over>;

// One warp: all tiles of the block's tasks, as the pattern has them. A stage's first_key says which
// keys it holds; -1: the task is over. The task stands in shared memory, not in registers.
template <class Block, class Rows, class Control, class Fetches>
DEEPSEEK_HOST_DEVICE void produce_tiles(const Block& block, const Rows& rows, index_t tasks,
                                        Control& c, const Fetches& fetches) {
  const warp_team<Block> warp(block);
  const bool fetching = block.lane() == 0;
  const auto& pattern = rows.spec.pattern;
  typename Control::place next;
  bulk::ring_place<1> next_queries;
  for (index_t t = block.index(); t < tasks; t += block.count()) {
    block.sync_warp();  // nobody reads the last task
    if (fetching) c.fetched = key_work<typename Rows::task>::of(rows, t, tasks);
    block.sync_warp();
    const auto& w = c.fetched;
    if (!w.at.exists) continue;
    index_t k0 = next_shared_tile(warp, pattern, w.at.seq, w.at.rows, w.first);
    for (bool first = true; k0 < w.end; next.advance(), first = false) {
      bulk::wait_empty(block, c.empty, next);
      const index_t row = w.at.seq.key_row(k0);
      if (fetching) {
        c.first_key[next.stage] = k0;
        fetches.keys(next.stage, w.at, row);
      }
      if (first) {
        bulk::wait_empty(block, c.q_empty, next_queries);
        next_queries.advance();
        if (fetching) fetches.queries(w.at);
      }
      if (fetching) fetches.values(next.stage, w.at, row);
      k0 = next_shared_tile(warp, pattern, w.at.seq, w.at.rows, k0 + key_tile);
    }
    bulk::wait_empty(block, c.empty, next);
    if (fetching) {
      c.first_key[next.stage] = -1;
      fetches.over(next.stage);
    }
    next.advance();
  }
}

// Of each group, in turns, of each warp.
using group_votes = std::uint32_t[2][2][4];
// The bits of all four warps, at one point of all their threads.
template <class Block>
DEEPSEEK_HOST_DEVICE std::uint32_t vote(const Block& block, group_votes& votes, int& turn,
                                        std::uint32_t mine) {
  std::uint32_t(&all)[4] = votes[bulk::consumer_group(block)][turn];
  turn ^= 1;
  if (block.lane() == 0) all[block.warp() % 4] = mine;
  warp_group::sync(block);
  return all[0] | all[1] | all[2] | all[3];
}

// s = q k^T of a group's 64 rows, which begin `first` bytes into every part of q.
template <class Block, class Queries, class Keys, class Scores>
DEEPSEEK_HOST_DEVICE void multiply_queries(const Block& block, const Queries& q,
                                           std::ptrdiff_t first, const Keys& k, Scores& s) {
  static_assert(Queries::width == Keys::width);
  const warp_group::matrix left = warp_group::rows_of_sums(block, q.data + first);
  const warp_group::matrix right = warp_group::rows_of_sums(block, k.data);
  warp_group::fence(block, s.part[0]);
  DEEPSEEK_UNROLL
  for (int i = 0; i < Queries::width / 16; ++i) {
    const int within = i % 4 * 32;
    warp_group::multiply_add(block, s.part[0], left + (i / 4 * Queries::part_bytes + within),
                             right + (i / 4 * Keys::part_bytes + within), i > 0);
  }
  warp_group::commit(block);
  warp_group::wait(block, s.part[0]);
}

// Which of a thread's sums see values that are +infinity or NaN, -infinity or NaN.
template <class T, int Sums>
struct infinities_of {
  bool some = false;
  std::uint32_t plus[Sums / 32], minus[Sums / 32];

  DEEPSEEK_HOST_DEVICE void begin() {
    for (int i = 0; !some && i < Sums / 32; ++i) plus[i] = minus[i] = 0;
    some = true;
  }
  DEEPSEEK_HOST_DEVICE void note(int i, T x) {
    if ((x.bits & full_exponent<T>) != full_exponent<T>) return;
    const float value = static_cast<float>(x);
    if (!(value < 0)) plus[i / 32] |= 1U << i % 32;
    if (!(value > 0)) minus[i / 32] |= 1U << i % 32;
  }
  // f(i, what sum i is with them), of those that see some.
  template <class F>
  DEEPSEEK_HOST_DEVICE void each(const F& f) const {
    for (int i = 0; some && i < Sums; ++i) {
      const bool up = (plus[i / 32] >> i % 32 & 1) != 0, down = (minus[i / 32] >> i % 32 & 1) != 0;
      if (up || down) f(i, (up ? -nothing_seen : 0.0F) + (down ? nothing_seen : 0.0F));
    }
  }
};

}  // namespace deepseek::cuda_attention
