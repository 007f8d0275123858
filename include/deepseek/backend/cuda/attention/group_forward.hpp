// SPDX-License-Identifier: Apache-2.0
// Attention forward on sm_90a ("level 2"): the rows, patterns and sums of tensor_forward, with
// products of warp groups and tiles that the hardware fetches. A block has three groups. Of the
// first one warp asks the pattern for the key tiles and has each copied into a ring of stages; a
// stage says which keys it holds, or that a task is over. The other two have 64 rows each: scores
// from queries and keys in shared memory, weights, rounded to 16 bits, in registers times values.
// They run freely against each other, so that one weighs while the other multiplies. Blocks stay on
// their multiprocessor and take task after task, tasks with late queries first. A group goes over a
// tile where one of its rows sees something of it; values that are not finite and hidden from a row
// take tensor_forward's way through registers. Not measured on hardware yet.
// Sources: Shah et al. 2024 (FlashAttention-3), sections 3.1, 3.2; Dao 2023, section 3.
#pragma once

#include "deepseek/backend/cuda/attention/group_tasks.hpp"

namespace deepseek::cuda_attention {

// Rows: a tensor_forward of eight warps of 16 rows.
template <class Rows>
struct group_forward {
  using T = typename Rows::T;
  using task = typename Rows::task;
  static constexpr int threads = bulk::ring_threads, value_width = Rows::v_tile::width;
  static constexpr int width = Rows::q_tile::width, stages = width == 64 ? 4 : 3;
  static constexpr int group_rows = 64, block_rows = 2 * group_rows;
  static constexpr int producer_registers = 104, consumer_registers = 200;
  using q_tiles = bulk::column_tiles<T, width, block_rows>;
  using k_tiles = bulk::column_tiles<T, width, key_tile>;
  using v_tiles = bulk::column_tiles<T, value_width, key_tile>;
  static_assert(Rows::M == 1 && Rows::threads == 256 && width % 64 == 0 && value_width % 64 == 0);

  Rows rows;
  bulk::tile_map q, k, v;  // of one head of 64 columns by: queries and heads of a tile; key_tile
  index_t tasks, most_blocks;

  index_t blocks() const { return smaller{}(tasks, most_blocks); }

  struct control {
    using place = bulk::ring_place<stages>;
    bulk::barrier q_full[1], q_empty[1], k_full[stages], v_full[stages], empty[stages];
    index_t first_key[stages];  // of the tile there; -1: the task is over
    group_votes votes;
    key_work<task> fetched;
  };
  static constexpr std::size_t between_bytes =
      std::size_t{256} * static_cast<std::size_t>(Rows::kept) * sizeof(float);
  static constexpr std::size_t tile_bytes =
      q_tiles::bytes + std::size_t{stages} * (k_tiles::bytes + v_tiles::bytes);
  static std::size_t shared_bytes() {
    return warp_group::core_bytes + tile_bytes + between_bytes + sizeof(control);
  }
  struct shared_parts {
    q_tiles q;
    k_tiles k;  // of stage 0
    v_tiles v;
    float* between;
    control* c;

    DEEPSEEK_HOST_DEVICE k_tiles keys(int stage) const { return {k.data + stage * k.bytes}; }
    DEEPSEEK_HOST_DEVICE v_tiles values(int stage) const { return {v.data + stage * v.bytes}; }
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if constexpr (warp_group::compiled) {
      const shared_parts at = parts_of(block);
      bulk::deal_roles<producer_registers, consumer_registers>(
          block, [&] { make_barriers(block, *at.c); }, [&] { produce(block, at); },
          [&] { consume(block, at); });
    }
  }

 private:
  using seen_tile = typename Rows::seen_tile;
  using place = typename control::place;
  using work = key_work<task>;

  template <class Block>
  DEEPSEEK_HOST_DEVICE static shared_parts parts_of(const Block& block) {
    std::byte* at = bulk::first_core(block);
    shared_parts parts{};
    parts.q = {at};
    parts.k = {at += q_tiles::bytes};
    parts.v = {at += stages * k_tiles::bytes};
    at += stages * v_tiles::bytes;
    parts.between = reinterpret_cast<float*>(at);
    parts.c = reinterpret_cast<control*>(at + between_bytes);
    return parts;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void make_barriers(const Block& block, control& c) {
    bulk::make_all(block, c.q_full, 1);
    bulk::make_all(block, c.q_empty, bulk::reading_warps);
    bulk::make_all(block, c.k_full, 1);
    bulk::make_all(block, c.v_full, 1);
    bulk::make_all(block, c.empty, bulk::reading_warps);
  }

  // One warp: has all tiles of the block's tasks fetched.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void produce(const Block& block, const shared_parts& parts) const {
    control& c = *parts.c;
    const auto keys = [&](int stage, const task& at, index_t row) {
      bulk::fetch(block, parts.keys(stage), k, {{0, at.kv, row}}, k_tiles::bytes, c.k_full[stage]);
    };
    const auto queries = [&](const task& at) {
      fetch_queries(block, parts.q, q, rows.launch().parts(), at, c.q_full[0]);
    };
    const auto values = [&](int stage, const task& at, index_t row) {
      bulk::fetch(block, parts.values(stage), v, {{0, at.kv, row}}, v_tiles::bytes,
                  c.v_full[stage]);
    };
    const auto over = [&](int stage) {
      bulk::arrive(block, c.k_full[stage]);
      bulk::arrive(block, c.v_full[stage]);
    };
    produce_tiles(block, rows, tasks, c, tile_fetches{keys, queries, values, over});
  }

  // What a group keeps from tile to tile.
  struct group_work {
    typename Rows::warp_state state;
    place stage;
    bulk::ring_place<1> queries;
    int turn = 0;
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void consume(const Block& block, const shared_parts& parts) const {
    const consumer_warps<Block, bulk::reading_warps> own(block);
    control& c = *parts.c;
    group_work g;
    for (index_t t = block.index(); t < tasks; t += block.count()) {
      const work w = work::of(rows, t, tasks);
      if (!w.at.exists) continue;
      g.state = {};
      index_t last = -1;   // tile before this
      bool begun = false;  // some range has been put
      for (;; g.stage.advance()) {
        bulk::wait_full(block, c.k_full, g.stage);
        const index_t k0 = c.first_key[g.stage.stage];
        if (k0 < 0) break;
        if (last < 0) bulk::wait_full(block, c.q_full, g.queries);
        if (last >= 0 && k0 / range_keys != last / range_keys) {
          rows.put_range(own, g.state, parts.between, begun);
          begun = true;
        }
        last = k0;
        add_tile(block, own, parts, w.at, k0, g);
        bulk::release(block, c.empty[g.stage.stage]);
      }
      bulk::release(block, c.empty[g.stage.stage]);
      g.stage.advance();
      if (last >= 0) {
        bulk::release(block, c.q_empty[0]);
        g.queries.advance();
      }
      rows.finish(own, w.at, w.part, g.state, begun ? parts.between : nullptr);
    }
  }

  template <class Block, class Own>
  DEEPSEEK_HOST_DEVICE void add_tile(const Block& block, const Own& own, const shared_parts& parts,
                                     const task& at, index_t k0, group_work& g) const {
    control& c = *parts.c;
    const std::uint64_t bits = rows.lane_bits(own, at, k0);
    const seen_tile seen{k0, bits, block.ballot(~bits != 0) == 0};
    const std::uint32_t group = vote(
        block, c.votes, g.turn, (block.ballot(bits != 0) != 0 ? 1U : 0U) | (seen.full ? 0U : 2U));
    if ((group & 1) == 0) {
      bulk::wait_full(block, c.v_full, g.stage);
      return;
    }
    sums<T, 1, key_tile / 8> s;
    const std::ptrdiff_t mine = bulk::consumer_group(block) * group_rows * warp_group::row_bytes;
    multiply_queries(block, parts.q, mine, parts.keys(g.stage.stage), s);
    rows.weigh(own, at, seen, s, g.state);
    bulk::wait_full(block, c.v_full, g.stage);
    const v_tiles values = parts.values(g.stage.stage);
    if ((group & 2) != 0 &&
        vote(block, c.votes, g.turn, not_finite_here(block, values) ? 1U : 0U) != 0) {
      add_seen_values(block, seen, s, values, g.state);
    } else {
      add_values(block, s, values, g.state);
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void add_values(const Block& block, const sums<T, 1, key_tile / 8>& p,
                                              const v_tiles& v, typename Rows::warp_state& state) {
    const warp_group::column_matrix right =
        warp_group::rows_of_columns(block, v.data, v_tiles::part_bytes);
    mma::a_part left[key_tile / 16];
    DEEPSEEK_UNROLL
    for (int i = 0; i < key_tile / 16; ++i) left[i] = as_left(p, 0, i);
    warp_group::fence(block, state.o.part[0]);
    DEEPSEEK_UNROLL
    for (int i = 0; i < key_tile / 16; ++i) {
      warp_group::multiply_add(block, state.o.part[0], left[i],
                               right + i * 16 * warp_group::row_bytes);
    }
    warp_group::commit(block);
    warp_group::wait(block, state.o.part[0]);
  }
  // Whether this warp's quarter of the tile holds a NaN or an infinity.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static bool not_finite_here(const Block& block, const v_tiles& v) {
    std::byte* const quarter = v.data + block.warp() % 4 * (v_tiles::bytes / 4);
    return not_finite(block, row_tile<T, value_width>{reinterpret_cast<T*>(quarter)}, key_tile / 4);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void add_seen_values(const Block& block, const seen_tile& seen,
                                                   const sums<T, 1, key_tile / 8>& p,
                                                   const v_tiles& v,
                                                   typename Rows::warp_state& state) {
    const std::uint64_t bits[2] = {block.shuffle(seen.bits, part_row(block.lane(), 0, 0)),
                                   block.shuffle(seen.bits, part_row(block.lane(), 0, 1))};
    multiply_columns<true, key_tile / 16>(block, state.o, p, v);
    add_not_finite(
        block, state.o, v, key_tile, [&](int, int h, int j) { return (bits[h] >> j & 1) != 0; },
        value_itself{});
  }
};

}  // namespace deepseek::cuda_attention
