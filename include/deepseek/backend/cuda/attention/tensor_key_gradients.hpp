// SPDX-License-Identifier: Apache-2.0
// dk and dv of attention on tensor cores: see tensor_backward.hpp.
#pragma once

#include "deepseek/backend/cuda/attention/tensor_backward.hpp"

namespace deepseek::cuda_attention {

template <class Shape, class Inputs, class DK, class DV>
struct tensor_key_gradients {
  using T = typename Shape::type;
  using P = typename Inputs::P;
  using q_tile = row_tile<T, Shape::width>;
  using v_tile = row_tile<T, Shape::value_width>;
  static constexpr int threads = Shape::warps * warp_size, keys = Shape::warps * 16;
  static constexpr int rows = Shape::rows, row_blocks = rows / 8;
  static_assert(keys == key_tile);
  Inputs from;
  DK dk;
  DV dv;

  index_t blocks() const {
    return slot_count(from.spec.key_offsets, dk.extent(0), keys) * dk.extent(1);
  }
  // What is known of each row of a tile.
  struct row_numbers {
    std::uint64_t bits[rows];
    pair_numbers of[rows];
  };
  static std::size_t shared_bytes() {
    return sizeof(T) * static_cast<std::size_t>(q_tile::size(keys + 2 * rows) +
                                                v_tile::size(keys + 2 * rows)) +
           2 * sizeof(row_numbers);
  }
  struct shared_tiles {
    T* memory;
    DEEPSEEK_HOST_DEVICE q_tile k() const { return {memory}; }
    DEEPSEEK_HOST_DEVICE v_tile v() const { return {memory + q_tile::size(keys)}; }
    DEEPSEEK_HOST_DEVICE q_tile q(int stage) const {
      return {v().data + v_tile::size(keys) + stage * q_tile::size(rows)};
    }
    DEEPSEEK_HOST_DEVICE v_tile d_o(int stage) const {
      return {q(2).data + stage * v_tile::size(rows)};
    }
    DEEPSEEK_HOST_DEVICE row_numbers& numbers(int stage) const {
      return reinterpret_cast<row_numbers*>(d_o(2).data)[stage];
    }
  };
  template <class S>
  struct task {
    sequence<S> seq;
    index_t kv, k0, group;

    DEEPSEEK_HOST_DEVICE bool holds(index_t row) const { return row < seq.queries * group; }
    DEEPSEEK_HOST_DEVICE index_t query(index_t row) const { return row / group; }
    DEEPSEEK_HOST_DEVICE index_t head(index_t row) const { return kv * group + row % group; }
  };
  struct state {
    sums<T, 1, Shape::width / 8> dk;
    sums<T, 1, Shape::value_width / 8> dv;
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const auto where = slot_at(from.spec.key_offsets, keys, block.index() / dk.extent(1));
    const auto seq =
        sequence_at(from.spec, where.sequence, from.in.q.extent(0), from.in.k.extent(0));
    const task<typename decltype(seq.pages.pages)::space> at{
        seq, block.index() % dk.extent(1), where.tile * keys, from.in.q.extent(1) / dk.extent(1)};
    if (at.k0 >= seq.keys) return;
    const shared_tiles tiles{reinterpret_cast<T*>(block.shared())};
    const auto copy = [&](const auto& view, const auto& to) {
      copy_rows<keys>(block, to, view.data(), [&](int j) -> const T* {
        return at.k0 + j < seq.keys ? &view(seq.key + at.k0 + j, at.kv, 0) : nullptr;
      });
    };
    copy(from.in.k, tiles.k());
    copy(from.in.v, tiles.v());
    state sum;
    index_t first = next_rows(block, at, 0);
    if (at.holds(first)) copy_row_tile(block, at, tiles, first, 0);
    mma::commit_copies(block);
    for (int stage = 0; at.holds(first); stage ^= 1) {
      const index_t next = next_rows(block, at, first + rows);
      if (at.holds(next)) copy_row_tile(block, at, tiles, next, stage ^ 1);
      mma::commit_copies(block);
      mma::wait_copies<1>(block);
      block.sync();
      add_tile(block, at, tiles, {first, stage}, sum);
      block.sync();  // nobody reads this tile any more
      first = next;
    }
    mma::wait_copies<0>(block);
    write(block, at, sum.dk, dk, static_cast<float>(from.spec.scale));
    write(block, at, sum.dv, dv, 1);
  }

 private:
  struct row_place {
    index_t first;
    int stage;
  };
  // The first tile of rows at or after `first` of which some row may see some of the keys.
  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE index_t next_rows(const Block& block, const Task& at, index_t first) const {
    const int group = static_cast<int>(at.group);
    for (; at.holds(first); first += rows) {
      const index_t end = smaller{}(first + rows, at.seq.queries * at.group);
      const row_group tile{at.query(first), at.query(end - 1) + 1 - at.query(first),
                           at.kv * at.group, group, group};
      if (next_shared_tile(block, from.spec.pattern, at.seq, tile, at.k0) == at.k0) break;
    }
    return first;
  }
  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void copy_row_tile(const Block& block, const Task& at,
                                          const shared_tiles& tiles, index_t first,
                                          int stage) const {
    const auto copy = [&](const auto& view, const auto& to) {
      copy_rows<rows>(block, to, view.data(), [&](int r) -> const T* {
        const index_t row = first + r;
        return at.holds(row) ? &view(at.seq.query + at.query(row), at.head(row), 0) : nullptr;
      });
    };
    copy(from.in.q, tiles.q(stage));
    copy(from.d_o, tiles.d_o(stage));
    for (int r = block.rank(); r < rows; r += block.size()) {
      tiles.numbers(stage).bits[r] = seen_by(at, first + r);
      tiles.numbers(stage).of[r] = numbers(at, first + r);
    }
  }
  // Of a row that does not exist: zeros, which add nothing, and all keys seen.
  template <class Task>
  DEEPSEEK_HOST_DEVICE pair_numbers numbers(const Task& at, index_t row) const {
    if (!at.holds(row)) return {0, 0};
    const index_t token = at.seq.query + at.query(row), head = at.head(row);
    return {static_cast<float>(from.lse(token, head)) * log2_of_e, from.delta(token, head)};
  }
  template <class Task>
  DEEPSEEK_HOST_DEVICE std::uint64_t seen_by(const Task& at, index_t row) const {
    const std::uint64_t there = span_bits(0, at.seq.keys, at.k0);
    if (!at.holds(row)) return there;
    if (from.saw_nothing(at.seq.query + at.query(row), at.head(row))) return 0;
    const P bound = bind_pattern(from.spec.pattern, at.seq.scope(at.head(row)));
    return there & row_bits(bound, at.seq.start + at.query(row), at.k0);
  }

  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void add_tile(const Block& block, const Task& at, const shared_tiles& tiles,
                                     const row_place& row, state& sum) const {
    const row_numbers& of = tiles.numbers(row.stage);
    bool some = false, all = true;
    for (int r = block.lane(); r < rows; r += warp_size) {
      some = some || of.bits[r] != 0;
      all = all && ~of.bits[r] == 0;
    }
    if (block.ballot(some) == 0) return;
    const bool full = block.ballot(!all) == 0;
    const auto sees = [&](int, int h, int r) {
      return (of.bits[r] >> (block.warp() * 16 + part_row(block.lane(), 0, h)) & 1) != 0;
    };
    sums<T, 1, row_blocks> p, ds;
    multiply_rows(block, p, tiles.k(), block.warp() * 16, tiles.q(row.stage));
    multiply_rows(block, ds, tiles.v(), block.warp() * 16, tiles.d_o(row.stage));
    const pair_scores<P> scores{static_cast<float>(from.spec.scale)};
    DEEPSEEK_UNROLL
    for (int n = 0; n < row_blocks; ++n) {
      DEEPSEEK_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int r = part_column(block.lane(), n, i);
        const P bound = bind_pattern(from.spec.pattern, at.seq.scope(at.head(row.first + r)));
        const index_t q = at.seq.start + at.query(row.first + r);
        DEEPSEEK_UNROLL
        for (int h = 0; h < 2; ++h) {
          const index_t k = at.k0 + block.warp() * 16 + part_row(block.lane(), 0, h);
          float &x = p.part[0][n].x[2 * h + i], &y = ds.part[0][n].x[2 * h + i];
          const auto now = scores(bound, x, y, of.of[r], q, k);
          const bool seen = full || sees(0, h, r);
          x = seen ? now.p : 0.0F;
          y = seen ? now.ds : 0.0F;
        }
      }
    }
    multiply_seen<rows / 16>(block, sum.dv, p, tiles.d_o(row.stage), !full, sees, value_itself{});
    multiply_seen<rows / 16>(block, sum.dk, ds, tiles.q(row.stage), !full, sees, value_as_nan{});
  }

  template <class Block, class Task, int N, class To>
  DEEPSEEK_HOST_DEVICE void write(const Block& block, const Task& at, const sums<T, 1, N>& sum,
                                  const To& to, float scale) const {
    for (int h = 0; h < 2; ++h) {
      const index_t key = at.k0 + block.warp() * 16 + part_row(block.lane(), 0, h);
      if (key >= at.seq.keys) continue;
      DEEPSEEK_UNROLL
      for (int n = 0; n < N; ++n) {
        const auto& x = sum.part[0][n].x;
        const float low = h == 0 ? x[0] : x[2], high = h == 0 ? x[1] : x[3];
        write_two<To, T>(to, at.seq.key + key, at.kv, part_column(block.lane(), n, 0), low * scale,
                         high * scale);
      }
    }
  }
};

}  // namespace deepseek::cuda_attention
