// SPDX-License-Identifier: Apache-2.0
// Attention forward on sm_90a ("level 2") where the values are the first elements of the keys
// (latent attention: 576 and 512; shared keys and values: 512 and 512). A block has 64 rows, the
// heads of one query or of several, and three groups. Of the first one warp has tiles of 64 keys
// copied into a ring of two stages, each once for both products. The other two have half of the
// columns of o each (256, 128 registers a thread) for all rows, and take turns at the scores: who
// has a stage's turn multiplies queries by its keys, makes weights of them and puts these, rounded
// to 16 bits, beside the rows' notes into shared memory; then both multiply the weights by their
// half of the same tile, while the next one is fetched. Of a row there is one maximum and one
// sum, handed from tile to tile in the notes, so it does not matter who had the turn, what other
// rows need or whether ranges have blocks of their own: a row has one set of bits. They are not
// those of latent_forward (sm_80), which goes by 32 keys and cuts the sum of a score in two.
// Sums of earlier ranges stand in the workspace. Where some row does not see all of a tile,
// values that are not finite are taken out of it and kept aside. Cost: 2 x 64 x 64 x (576 + 512)
// operations a tile; keys are read once for 64 rows, by way of L2. Not measured on hardware yet.
// Sources: DeepSeek-AI 2024 (DeepSeek-V2), section 2.1 (absorbed form); Shah et al. 2024
// (FlashAttention-3), section 3.1; the halves of o are the published idea of FlashMLA.
#pragma once

#include "deepseek/backend/cuda/attention/group_tasks.hpp"

namespace deepseek::cuda_attention {

// Rows: a tensor_forward of four warps of 16 rows.
template <class Rows>
struct group_latent_forward {
  using T = typename Rows::T;
  using task = typename Rows::task;
  static constexpr int threads = bulk::ring_threads, stages = 2, block_rows = 64;
  static constexpr int width = Rows::q_tile::width, value_width = Rows::v_tile::width;
  static constexpr int columns = value_width / 2, column_blocks = columns / 8;  // of a group
  static constexpr int kept = column_blocks * 4 + 4;  // numbers of a thread between ranges
  static constexpr int readers = 2 * warp_group::size;
  static constexpr int producer_registers = 56, consumer_registers = 224;
  using q_tiles = bulk::column_tiles<T, width, block_rows>;
  using k_tiles = bulk::column_tiles<T, width, key_tile>;
  using weight_tile = bulk::column_tiles<T, key_tile, block_rows>;
  static_assert(Rows::M == 1 && Rows::threads == 128 && value_width == 512 && width >= 512);

  Rows rows;
  bulk::tile_map q, k;  // of one head of 64 columns by: queries and heads of a tile; key_tile
  index_t tasks, most_blocks;
  float* between;  // [blocks, kept, readers], for rows of more than one range

  index_t blocks() const { return smaller{}(tasks, most_blocks); }

  // Of a row after a tile: by what o is scaled, maximum and sum.
  struct note {
    float factor;
    online row;
  };
  struct control {
    using place = bulk::ring_place<stages>;
    bulk::barrier q_full[1], q_empty[1], full[stages], empty[stages], weighed[stages];
    index_t first_key[stages];  // of the tile there; -1: the task is over
    note of[block_rows];
    std::uint32_t hidden[4];  // of each warp's 16 rows: one does not see all of the tile
    group_votes votes;
    key_work<task> fetched, now[2];  // what each group is at; in registers it would not fit
  };
  static constexpr std::size_t tile_bytes =
      q_tiles::bytes + std::size_t{stages} * k_tiles::bytes + weight_tile::bytes;
  static std::size_t shared_bytes() {
    constexpr std::size_t bytes = warp_group::core_bytes + tile_bytes + sizeof(control);
    static_assert(bytes + reserved_bytes <= std::size_t{227} << 10U, "what sm_90 has");
    return bytes;
  }
  struct shared_parts {
    std::byte* data;
    DEEPSEEK_HOST_DEVICE q_tiles q() const { return {data}; }
    DEEPSEEK_HOST_DEVICE k_tiles keys(int stage) const {
      return {data + q_tiles::bytes + stage * k_tiles::bytes};
    }
    DEEPSEEK_HOST_DEVICE weight_tile weights() const {
      return {data + q_tiles::bytes + stages * k_tiles::bytes};
    }
    DEEPSEEK_HOST_DEVICE control& c() const {
      return *reinterpret_cast<control*>(data + tile_bytes);
    }
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if constexpr (warp_group::compiled) {
      const shared_parts at{bulk::first_core(block)};
      bulk::deal_roles<producer_registers, consumer_registers>(
          block, [&] { make_barriers(block, at.c()); }, [&] { produce(block, at); },
          [&] { consume(block, at); });
    }
  }

 private:
  using seen_tile = typename Rows::seen_tile;
  using place = typename control::place;
  using work = key_work<task>;

  template <class Block>
  DEEPSEEK_HOST_DEVICE static void make_barriers(const Block& block, control& c) {
    bulk::make_all(block, c.q_full, 1);
    bulk::make_all(block, c.q_empty, bulk::reading_warps);
    bulk::make_all(block, c.full, 1);
    bulk::make_all(block, c.empty, bulk::reading_warps);
    bulk::make_all(block, c.weighed, bulk::reading_warps / 2);
  }

  // One warp: has all tiles of the block's tasks fetched.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void produce(const Block& block, const shared_parts& parts) const {
    control& c = parts.c();
    const auto keys = [&](int stage, const task& at, index_t row) {
      bulk::fetch(block, parts.keys(stage), k, {{0, at.kv, row}}, k_tiles::bytes, c.full[stage]);
    };
    const auto queries = [&](const task& at) {
      fetch_queries(block, parts.q(), q, rows.launch().parts(), at, c.q_full[0]);
    };
    const auto values = [](int, const task&, index_t) {};  // they are the keys'
    const auto over = [&](int stage) { bulk::arrive(block, c.full[stage]); };
    produce_tiles(block, rows, tasks, c, tile_fetches{keys, queries, values, over});
  }

  // What a group needs seldom, apart from what the products keep in registers.
  struct seldom {
    infinities_of<T, column_blocks * 4> aside;
    bulk::ring_place<1> queries;
    index_t at;    // task
    int turn = 0;  // of the votes
  };
  // What a group keeps from tile to tile. row: of part_row(lane, 0, h), the same in both groups.
  struct group_work {
    int group;  // 0 or 1
    sums<T, 1, column_blocks> o;
    online row[2];
    place stage;
    seldom* more;

    DEEPSEEK_HOST_DEVICE void restart() {
      o = {};
      more->aside.some = false;
      row[0] = row[1] = {};
    }
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void consume(const Block& block, const shared_parts& parts) const {
    control& c = parts.c();
    seldom more{};
    group_work g{};
    g.group = block.shuffle(bulk::consumer_group(block), 0);
    g.more = &more;
    const work& w = c.now[g.group];
    for (more.at = block.index(); more.at < tasks; more.at += block.count()) {
      warp_group::sync(block);  // nobody reads the last task
      if (block.rank() % warp_group::size == 0) c.now[g.group] = work::of(rows, more.at, tasks);
      warp_group::sync(block);
      if (!w.at.exists) continue;
      g.restart();
      int range = -1;      // of the last tile
      bool begun = false;  // some range has been put
      for (;; g.stage.advance()) {
        bulk::wait_full(block, c.full, g.stage);
        const index_t k0 = c.first_key[g.stage.stage];
        const int now = static_cast<int>(k0 < 0 ? -1 : k0 / range_keys);
        if (range >= 0 && range != now) {
          merge_kept(block, g, begun);
          if (now >= 0) put_range(block, g);
          begun = true;
        }
        if (now < 0) break;
        if (range < 0) bulk::wait_full(block, c.q_full, more.queries);
        range = now;
        if (g.stage.stage == g.group) make_weights(block, parts, w.at, k0, g);
        add_tile(block, parts, w.at, k0, g);
        bulk::release(block, c.empty[g.stage.stage]);
      }
      if (g.stage.stage == g.group)
        bulk::release(block, c.weighed[g.stage.stage]);  // none, in turn
      bulk::release(block, c.empty[g.stage.stage]);
      g.stage.advance();
      if (range >= 0) {
        bulk::release(block, c.q_empty[0]);
        more.queries.advance();
      }
      finish(block, w, g);
    }
  }

  // The group whose turn it is: weights and notes of all rows.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void make_weights(const Block& block, const shared_parts& parts,
                                         const task& at, index_t k0, const group_work& g) const {
    const consumer_warps<Block, 4> own(block);
    control& c = parts.c();
    sums<T, 1, key_tile / 8> s;
    multiply_queries(block, parts.q(), 0, parts.keys(g.stage.stage), s);
    const std::uint64_t bits = rows.lane_bits(own, at, k0);
    const seen_tile seen{k0, bits, block.ballot(~bits != 0) == 0};
    const place before = g.stage.before();
    bulk::wait(block, c.empty[before.stage], before.parity);  // all have read the last weights
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      note of{1, g.row[h]};
      if (block.lane() % 4 != 0) of.row.total = 0;  // one of a row's four lanes has it
      of.factor = rows.weigh_row(own, at, seen, h, s.part[0], of.row);
      Rows::add_lanes(block, of.row);
      put_weights(block, parts, own.warp() * 16, h, s, of);
    }
    if (block.lane() == 0) c.hidden[own.warp()] = seen.full ? 0U : 1U;
    warp_group::publish(block);
    bulk::release(block, c.weighed[g.stage.stage]);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void put_weights(const Block& block, const shared_parts& parts,
                                               int first, int h, const sums<T, 1, key_tile / 8>& s,
                                               const note& of) {
    const int row = first + part_row(block.lane(), 0, h);
    const weight_tile to = parts.weights();
    DEEPSEEK_UNROLL
    for (int n = 0; n < key_tile / 8; ++n) {
      const auto& x = s.part[0][n].x;
      warp_group::put(block, to.unit(row, n) + part_column(block.lane(), 0, 0),
                      mma::pack<T>(x[2 * h], x[2 * h + 1]));
    }
    if (block.lane() % 4 == 0) parts.c().of[row] = of;
  }

  // Both groups: o is scaled to the tile's notes; then weights times the group's columns.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_tile(const Block& block, const shared_parts& parts, const task& at,
                                     index_t k0, group_work& g) const {
    control& c = parts.c();
    const int stage = g.stage.stage, first = block.warp() % 4 * 16;
    bulk::wait_full(block, c.weighed, g.stage);
    float factor[2];
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      const note& of = c.of[first + part_row(block.lane(), 0, h)];
      g.row[h] = of.row;
      factor[h] = of.factor;
    }
    if (block.ballot(factor[0] != 1.0F || factor[1] != 1.0F) != 0) {  // a NaN is not 1
      DEEPSEEK_UNROLL
      for (int i = 0; i < column_blocks * 4; ++i) g.o.part[0][i / 4].x[i % 4] *= factor[i / 2 % 2];
    }
    const k_tiles keys = parts.keys(stage);
    const bool hidden = (c.hidden[0] | c.hidden[1] | c.hidden[2] | c.hidden[3]) != 0;
    if (hidden && vote(block, c.votes, g.more->turn, not_finite_here(block, keys, g.group)) != 0) {
      set_aside(block, keys, at, k0, g);
    }
    add_values(block, parts.weights(), keys, g);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void add_values(const Block& block, const weight_tile& p,
                                              const k_tiles& keys, group_work& g) {
    const warp_group::matrix left = warp_group::rows_of_sums(block, p.data);
    const std::byte* const mine = keys.data + g.group * (columns / 64) * k_tiles::part_bytes;
    const warp_group::column_matrix right =
        warp_group::rows_of_columns(block, mine, k_tiles::part_bytes);
    warp_group::fence(block, g.o.part[0]);
    DEEPSEEK_UNROLL
    for (int i = 0; i < key_tile / 16; ++i) {
      warp_group::multiply_add(block, g.o.part[0], left + i * 32,
                               right + i * 16 * warp_group::row_bytes, true);
    }
    warp_group::commit(block);
    warp_group::wait(block, g.o.part[0]);
  }
  // The 64 columns of the group's that its warp looks after.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static T* warp_columns(const Block& block, const k_tiles& keys, int group) {
    static_assert(columns / 64 == 4);
    return reinterpret_cast<T*>(keys.data + (group * 4 + block.warp() % 4) * k_tiles::part_bytes);
  }
  // 1 where they hold a NaN or an infinity.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static std::uint32_t not_finite_here(const Block& block, const k_tiles& keys,
                                                            int group) {
    const row_tile<T, 64> tile{warp_columns(block, keys, group)};
    return not_finite(block, tile, key_tile) ? 1U : 0U;
  }
  // What is not finite in the group's columns is noted for the rows that see it, and is zero in the
  // tile from then on: its scores are made, and the other group has other columns.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void set_aside(const Block& block, const k_tiles& keys, const task& at,
                                      index_t k0, group_work& g) const {
    const consumer_warps<Block, 4> own(block);
    const std::uint64_t mine = rows.lane_bits(own, at, k0);
    const std::uint64_t bits[2] = {block.shuffle(mine, part_row(block.lane(), 0, 0)),
                                   block.shuffle(mine, part_row(block.lane(), 0, 1))};
    g.more->aside.begin();
    for (int i = 0; i < key_tile * column_blocks; ++i) {
      const int j = i / column_blocks, n = i % column_blocks;
      const T* const two = keys.unit(j, g.group * column_blocks + n) + block.lane() % 4 * 2;
      for (int e = 0; e < 4; ++e) {
        if ((bits[e / 2] >> j & 1) != 0) g.more->aside.note(n * 4 + e, two[e % 2]);
      }
    }
    warp_group::sync(block);  // all of the group have read them
    auto* const words = reinterpret_cast<std::uint32_t*>(warp_columns(block, keys, g.group));
    for (int i = block.lane(); i < key_tile * 32; i += warp_size) {
      const std::uint32_t finite = finite_or_zero<T>(words[i]);
      if (finite != words[i]) warp_group::put(block, words + i, finite);
    }
    warp_group::publish(block);
    warp_group::sync(block);
  }

  // This thread's number i between ranges.
  template <class Block>
  DEEPSEEK_HOST_DEVICE float& kept_sum(const Block& block, int i) const {
    return between[(block.index() * kept + i) * readers + block.rank() - warp_group::size];
  }
  // The state becomes that of all ranges so far.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void merge_kept(const Block& block, group_work& g, bool begun) const {
    constexpr int rows_from = column_blocks * 4;
    merged_ranges merged[2];
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      online before;
      if (begun) {
        before = {kept_sum(block, rows_from + 2 * h), kept_sum(block, rows_from + 2 * h + 1)};
      }
      merged[h] = merge_ranges_of(before, g.row[h]);
      g.row[h] = merged[h].row;
    }
    DEEPSEEK_UNROLL
    for (int i = 0; i < column_blocks * 4; ++i) {
      float& x = g.o.part[0][i / 4].x[i % 4];
      x = merged[i / 2 % 2](begun ? kept_sum(block, i) : 0.0F, x);
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void put_range(const Block& block, group_work& g) const {
    constexpr int rows_from = column_blocks * 4;
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      kept_sum(block, rows_from + 2 * h) = g.row[h].top;
      kept_sum(block, rows_from + 2 * h + 1) = g.row[h].total;
    }
    DEEPSEEK_UNROLL
    for (int i = 0; i < column_blocks * 4; ++i) {
      kept_sum(block, i) = g.o.part[0][i / 4].x[i % 4];
    }
    g.more->aside.each([&](int i, float x) { kept_sum(block, i) += x; });
    g.restart();
  }

  // Where row h of this thread stands.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static int row_of(const Block& block, int h) {
    return block.warp() % 4 * 16 + part_row(block.lane(), 0, h);
  }
  DEEPSEEK_HOST_DEVICE static output_row place_of(const work& w, int row) {
    return {w.part, w.at.seq.query + w.at.rows.query(row), w.at.rows.head(row)};
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void finish(const Block& block, const work& w, const group_work& g) const {
    const int first = g.group * column_blocks;
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = row_of(block, h);
      if (!w.at.rows.holds(row)) continue;
      const output_row to = place_of(w, row);
      const finished_row done(g.row[h]);
      DEEPSEEK_UNROLL
      for (int n = 0; n < column_blocks; ++n) {
        const auto& x = g.o.part[0][n].x;
        const int c = part_column(block.lane(), first + n, 0);
        put_pair(rows.out, rows.parts, to, done, c, x[2 * h], x[2 * h + 1]);
      }
      if (g.group == 0 && block.lane() % 4 == 0) put_row(rows.out, rows.parts, to, g.row[h]);
    }
    g.more->aside.each([&](int i, float x) {
      const int row = row_of(block, i / 2 % 2);
      const int c = part_column(block.lane(), first + i / 4, i % 2);
      if (w.at.rows.holds(row)) put_not_finite(rows.out, rows.parts, place_of(w, row), c, x);
    });
  }
};

}  // namespace deepseek::cuda_attention
