// SPDX-License-Identifier: Apache-2.0
// dq of attention on tensor cores: see tensor_backward.hpp.
#pragma once

#include "deepseek/backend/cuda/attention/tensor_backward.hpp"

namespace deepseek::cuda_attention {

template <class Shape, class Inputs, class DQ>
struct tensor_query_gradients {
  using T = typename Shape::type;
  using P = typename Inputs::P;
  using q_tile = row_tile<T, Shape::width>;
  using v_tile = row_tile<T, Shape::value_width>;
  static constexpr int threads = Shape::warps * warp_size, rows = Shape::warps * 16;
  static constexpr int key_blocks = key_tile / 8, stages = Shape::stages;
  Inputs from;
  DQ dq;

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<rows, decltype(from.in.q), decltype(from.in.k), decltype(from.spec)>{
        from.in.q, from.in.k, from.spec, 1, 1};
  }
  index_t blocks() const { return launch().blocks(); }
  static std::size_t shared_bytes() {
    return sizeof(T) * static_cast<std::size_t>(q_tile::size(rows + stages * key_tile) +
                                                v_tile::size(rows + stages * key_tile));
  }

  struct shared_tiles {
    T* memory;
    DEEPSEEK_HOST_DEVICE q_tile q() const { return {memory}; }
    DEEPSEEK_HOST_DEVICE v_tile d_o() const { return {memory + q_tile::size(rows)}; }
    DEEPSEEK_HOST_DEVICE q_tile k(int stage) const {
      return {d_o().data + v_tile::size(rows) + stage * q_tile::size(key_tile)};
    }
    DEEPSEEK_HOST_DEVICE v_tile v(int stage) const {
      return {k(stages).data + stage * v_tile::size(key_tile)};
    }
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const auto at = launch().task(block.index(), block.count());
    if (!at.exists) return;
    const shared_tiles tiles{reinterpret_cast<T*>(block.shared())};
    const auto copy = [&](const auto& view, const auto& to) {
      copy_rows<rows>(block, to, view.data(), [&](int r) -> const T* {
        return at.rows.holds(r) ? &view(at.seq.query + at.rows.query(r), at.rows.head(r), 0)
                                : nullptr;
      });
    };
    copy(from.in.q, tiles.q());
    copy(from.d_o, tiles.d_o());
    pair_numbers own[2];
    for (int h = 0; h < 2; ++h) own[h] = numbers(at, row(block, h));
    sums<T, 1, Shape::width / 8> sum;
    index_t k0 = next_shared_tile(block, from.spec.pattern, at.seq, at.rows, 0);
    if (k0 < at.seq.keys) copy_keys(block, at, tiles, k0, 0);
    mma::commit_copies(block);
    for (int stage = 0; k0 < at.seq.keys; stage = (stage + 1) % stages) {
      const index_t next =
          next_shared_tile(block, from.spec.pattern, at.seq, at.rows, k0 + key_tile);
      if (stages > 1 && next < at.seq.keys) copy_keys(block, at, tiles, next, (stage + 1) % stages);
      mma::commit_copies(block);
      mma::wait_copies<1>(block);
      block.sync();
      add_tile(block, at, tiles, {k0, stage}, own, sum);
      block.sync();  // nobody reads this tile any more
      if (stages == 1 && next < at.seq.keys) {
        copy_keys(block, at, tiles, next, 0);
        mma::commit_copies(block);
        mma::wait_copies<0>(block);
      }
      k0 = next;
    }
    mma::wait_copies<0>(block);
    write(block, at, sum);
  }

 private:
  struct key_place {
    index_t k0;
    int stage;
  };
  template <class Block>
  DEEPSEEK_HOST_DEVICE static int row(const Block& block, int h) {
    return block.warp() * 16 + part_row(block.lane(), 0, h);
  }
  // Of a row that does not exist: zeros, which add nothing.
  template <class Task>
  DEEPSEEK_HOST_DEVICE pair_numbers numbers(const Task& at, int r) const {
    if (!at.rows.holds(r)) return {0, 0};
    const index_t token = at.seq.query + at.rows.query(r), head = at.rows.head(r);
    return {static_cast<float>(from.lse(token, head)) * log2_of_e, from.delta(token, head)};
  }
  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void copy_keys(const Block& block, const Task& at, const shared_tiles& tiles,
                                      index_t k0, int stage) const {
    const auto copy = [&](const auto& view, const auto& to) {
      copy_rows<key_tile>(block, to, view.data(), [&](int j) -> const T* {
        return k0 + j < at.seq.keys ? &view(at.seq.key_row(k0 + j), at.kv, 0) : nullptr;
      });
    };
    copy(from.in.k, tiles.k(stage));
    copy(from.in.v, tiles.v(stage));
  }
  // What row `lane` of the warp sees.
  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE std::uint64_t lane_bits(const Block& block, const Task& at,
                                               index_t k0) const {
    const int r = block.warp() * 16 + block.lane() % 16;
    const std::uint64_t there = span_bits(0, at.seq.keys, k0);
    if (!at.rows.holds(r)) return there;
    if (from.saw_nothing(at.seq.query + at.rows.query(r), at.rows.head(r))) return 0;
    const P bound = bind_pattern(from.spec.pattern, at.seq.scope(at.rows.head(r)));
    return there & row_bits(bound, at.seq.start + at.rows.query(r), k0);
  }

  template <class Block, class Task, class Sum>
  DEEPSEEK_HOST_DEVICE void add_tile(const Block& block, const Task& at, const shared_tiles& tiles,
                                     const key_place& key, const pair_numbers (&own)[2],
                                     Sum& sum) const {
    const std::uint64_t seen = lane_bits(block, at, key.k0);
    if (block.ballot(seen != 0) == 0) return;
    const bool full = block.ballot(~seen != 0) == 0;
    std::uint64_t bits[2];
    for (int h = 0; h < 2; ++h) bits[h] = block.shuffle(seen, part_row(block.lane(), 0, h));
    sums<T, 1, key_blocks> s, ds;
    multiply_rows(block, s, tiles.q(), block.warp() * 16, tiles.k(key.stage));
    multiply_rows(block, ds, tiles.d_o(), block.warp() * 16, tiles.v(key.stage));
    const pair_scores<P> scores{static_cast<float>(from.spec.scale)};
    DEEPSEEK_UNROLL
    for (int h = 0; h < 2; ++h) {
      const P bound = bind_pattern(from.spec.pattern, at.seq.scope(at.rows.head(row(block, h))));
      const index_t q = at.seq.start + at.rows.query(row(block, h));
      DEEPSEEK_UNROLL
      for (int n = 0; n < key_blocks; ++n) {
        DEEPSEEK_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int j = part_column(block.lane(), n, i), e = 2 * h + i;
          const bool sees = full || (bits[h] >> j & 1) != 0;
          float& x = ds.part[0][n].x[e];
          const float now = scores(bound, s.part[0][n].x[e], x, own[h], q, key.k0 + j).ds;
          x = sees ? now : 0.0F;
        }
      }
    }
    multiply_seen<key_tile / 16>(
        block, sum, ds, tiles.k(key.stage), !full,
        [&](int, int h, int j) { return (bits[h] >> j & 1) != 0; }, value_as_nan{});
  }

  template <class Block, class Task, class Sum>
  DEEPSEEK_HOST_DEVICE void write(const Block& block, const Task& at, const Sum& sum) const {
    const float scale = static_cast<float>(from.spec.scale);
    for (int h = 0; h < 2; ++h) {
      const int r = row(block, h);
      if (!at.rows.holds(r)) continue;
      DEEPSEEK_UNROLL
      for (int n = 0; n < Shape::width / 8; ++n) {
        const auto& x = sum.part[0][n].x;
        const float low = h == 0 ? x[0] : x[2], high = h == 0 ? x[1] : x[3];
        write_two<DQ, T>(dq, at.seq.query + at.rows.query(r), at.rows.head(r),
                         part_column(block.lane(), n, 0), low * scale, high * scale);
      }
    }
  }
};

}  // namespace deepseek::cuda_attention
