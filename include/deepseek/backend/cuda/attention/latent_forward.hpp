// SPDX-License-Identifier: Apache-2.0
// Attention forward on tensor cores, bf16 and f16, where the values are the first elements of the
// keys (latent attention: 576 and 512; shared keys and values: 512 and 512). A block has up to 64
// rows (heads of one key row, of one or more queries) and reads each key row once, for both
// products: tiles of 32 keys, the next one copied asynchronously while one is used. Which keys
// those are, and where they stand, its source says (key_source.hpp): all, or those of a list. The
// scores of a tile are computed once by all warps; eight lanes a row make weights of them, in
// shared memory; then each warp adds its own columns of o, which stay in registers. The arithmetic
// of a row is the same in every shape of block.
// Keys are summed in ranges of 512 (positions, or entries of the list), then range by range: a
// block goes over all of them, its sums between ranges in the workspace, or a decode step gives
// each to a block of its own and merge_ranges makes one of them, with the same bits. Hidden values
// that are not finite are treated as in tensor_forward.hpp.
#pragma once

#include "deepseek/backend/cuda/attention/latent_tiles.hpp"

namespace deepseek::cuda_attention {

// Tiles first .. first + count - 1 of all those of the rows.
struct tile_span {
  index_t first = 0, count = 0, all = 0;
};

template <class Shape, class In, class Out, class Spec,
          template <class, class, int> class Source = placed_keys>
struct latent_forward {
  using T = typename Shape::type;
  using P = std::remove_cvref_t<decltype(Spec::pattern)>;
  using S = typename decltype(Spec::query_offsets)::space;
  using source = Source<P, S, latent_keys>;
  using key_tile_at = typename source::tile;
  using tile = row_tile<T, Shape::width>;
  using room = score_room<T, Shape::rows>;
  static constexpr int threads = Shape::warps * warp_size, M = Shape::m, N = Shape::column_blocks;
  static constexpr int kept = M * N * 4;  // numbers of a thread
  static constexpr int row_threads = 8, row_each = latent_keys / row_threads;
  static constexpr int own_rows = Shape::rows * row_threads / threads;  // of a thread
  static constexpr float log2_e = 1.44269504088896340736F;
  In in;
  Out out;
  Spec spec;
  range_parts<S> parts;
  tile_span span;
  float* between;  // [count, kept, threads], for rows of more than one range

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<Shape::rows, decltype(in.q), decltype(in.k), Spec, source::of_one_query>{
        in.q, in.k, spec, 1, 1};
  }
  index_t blocks() const { return span.count * parts.count; }
  static constexpr std::size_t shared_bytes() {
    return sizeof(T) * static_cast<std::size_t>(tile::size(Shape::rows + 2 * latent_keys)) +
           room::bytes;
  }

  // row: of this thread's rows in this range of keys; total: its part of the sum.
  struct state {
    sums<T, M, N> o;  // the warp's columns of all rows
    online row[own_rows];
  };
  struct shared_tiles {
    T* memory;
    DEEPSEEK_HOST_DEVICE tile q() const { return {memory}; }
    DEEPSEEK_HOST_DEVICE tile k(int stage) const {
      return {memory + tile::size(Shape::rows) + stage * tile::size(latent_keys)};
    }
    DEEPSEEK_HOST_DEVICE room scores() const {
      return {reinterpret_cast<float*>(memory + tile::size(Shape::rows + 2 * latent_keys))};
    }
  };
  using task = row_task<S>;

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t part = block.index() % parts.count;
    const task at = launch().task(span.first + block.index() / parts.count, span.all);
    if (!at.exists) return;
    const shared_tiles tiles{reinterpret_cast<T*>(block.shared())};
    const source keys{spec.pattern, at};
    const index_t first = parts.count == 1 ? 0 : part * range_keys;
    const index_t end =
        parts.count == 1 ? keys.count() : smaller{}(first + range_keys, keys.count());
    copy_wide_rows<Shape::rows>(block, tiles.q(), in.q.data(), [&](int r) -> const T* {
      return at.rows.holds(r) ? &in.q(at.seq.query + at.rows.query(r), at.rows.head(r), 0)
                              : nullptr;
    });
    state sum;
    for (int r = block.rank(); r < Shape::rows; r += threads) tiles.scores().before(r) = {};
    const bool begun = add_tiles(block, at, keys, tiles, sum, {first, end});
    mma::wait_copies<0>(block);
    finish(block, at, part, tiles.scores(), sum, begun);
  }

 private:
  // All tiles of a span; whether sums of earlier ranges have been put aside.
  template <class Block>
  DEEPSEEK_HOST_DEVICE bool add_tiles(const Block& block, const task& at, const source& keys,
                                      const shared_tiles& tiles, state& sum,
                                      const key_span& walk) const {
    bool begun = false;
    const index_t end = walk.last;
    key_tile_at now = keys.first(block, walk.first);
    if (now.k0 < end) copy_keys(block, at, keys, tiles.k(0), now);
    mma::commit_copies(block);
    for (int stage = 0; now.k0 < end; stage = 1 - stage) {
      const key_tile_at next = keys.after(block, now, end);
      const tile k = tiles.k(stage);
      mma::wait_copies<0>(block);
      block.sync();  // keys are here; nobody reads the last tile, its weights and notes
      if (next.k0 < end) copy_keys(block, at, keys, tiles.k(1 - stage), next);
      mma::commit_copies(block);
      multiply_halves<Shape>(block, tiles.q(), k, tiles.scores());
      block.sync();
      weigh(block, at, keys, now, tiles.scores(), sum);
      block.sync();
      add_values(block, tiles.scores(), k, sum.o);
      if (next.k0 < end && next.k0 / range_keys != now.k0 / range_keys) {
        put_range(block, tiles.scores(), sum, begun);
        begun = true;
      }
      now = next;
    }
    return begun;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_keys(const Block& block, const task& at, const source& keys,
                                      const tile& to, const key_tile_at& from) const {
    copy_wide_rows<latent_keys>(block, to, in.k.data(), [&](int j) -> const T* {
      const index_t row = keys.memory_row(block, from, j);
      return row >= 0 ? &in.k(row, at.kv, 0) : nullptr;
    });
  }

  DEEPSEEK_HOST_DEVICE static int own_row(int rank, int i) {
    return rank / row_threads + i * (threads / row_threads);
  }
  // Scores of this thread's rows become weights; by what o is scaled is noted.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const task& at, const source& keys,
                                  const key_tile_at& from, const room& scores, state& sum) const {
    DEEPSEEK_UNROLL
    for (int i = 0; i < own_rows; ++i) {
      const int r = own_row(block.rank(), i);
      const P bound = bind_pattern(spec.pattern, at.seq.scope(at.rows.head(r)));
      const std::uint32_t bits = keys.seen(bound, r, from);
      float s[row_each];
      const auto position = [&](int j) { return keys.position(block, from, j); };
      const float top = own_scores(block, at, bound, {r, bits}, position, scores, s);
      online& row = sum.row[i];
      const float highest = larger{}(row.top, top);
      const float shift = highest == nothing_seen ? 0.0F : highest;
      const float factor = std::exp2(row.top - shift);
      float part = 0;
      DEEPSEEK_UNROLL
      for (float& x : s) part += x = std::exp2(x - shift);
      row = {highest, row.total * factor + part};
      block.sync_warp();  // the row's scores have been read
      const int j = block.rank() % row_threads * row_each;
      auto* const to = reinterpret_cast<std::uint32_t*>(scores.weights(r, 0) + j);
      to[0] = mma::pack<T>(s[0], s[1]);
      to[1] = mma::pack<T>(s[2], s[3]);
      if (j != 0) continue;
      scores.first(r) = factor;
      scores.bits(r) = bits;
    }
  }
  struct seen_row {
    int row;
    std::uint32_t bits;
  };
  // This thread's scores of a row, times log2 e; gives the largest of the row.
  template <class Block, class Position>
  DEEPSEEK_HOST_DEVICE float own_scores(const Block& block, const task& at, const P& bound,
                                        const seen_row& of, const Position& position,
                                        const room& scores, float (&s)[row_each]) const {
    const int j = block.rank() % row_threads * row_each;
    const float* const a = scores.sums(0, of.row) + j;
    const float* const b = scores.sums(1, of.row) + j;
    const float scale = static_cast<float>(spec.scale);
    float top = nothing_seen;
    DEEPSEEK_UNROLL
    for (int i = 0; i < row_each; ++i) {
      float x = a[i] + b[i];
      if constexpr (modifies_scores<P>) {
        const index_t q = at.seq.start + at.rows.query(of.row);
        x = log2_e * modify_score(bound, x * scale, q, position(j + i)).score;
      } else {
        x *= scale * log2_e;
      }
      s[i] = (of.bits >> (j + i) & 1) != 0 ? x : nothing_seen;
      top = larger{}(top, s[i]);
    }
    for (int bit = 1; bit < row_threads; bit *= 2) {
      top = larger{}(top, block.shuffle_xor(top, bit));
    }
    return top;
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_values(const Block& block, const room& p, const tile& v,
                                       sums<T, M, N>& o) const {
    float factor[2 * M];
    bool changed = false, hidden = false;
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int row = part_row(block.lane(), r / 2, r % 2);
      factor[r] = p.first(row);
      changed = changed || factor[r] != 1.0F;  // a NaN changes all
      if constexpr (source::hides) hidden = hidden || ~p.bits(row) != 0;
    }
    if (block.ballot(changed) != 0) {
      DEEPSEEK_UNROLL
      for (int r = 0; r < 2 * M; ++r) {
        DEEPSEEK_UNROLL
        for (int n = 0; n < 2 * N; ++n) o.part[r / 2][n / 2].x[r % 2 * 2 + n % 2] *= factor[r];
      }
    }
    const int column = block.warp() * N;
    if constexpr (source::hides) {
      if (block.ballot(hidden) != 0 && columns_not_finite<N>(block, v, column)) {
        multiply_weights<true>(block, o, p, v, column);
        return add_columns_not_finite(block, o, p, v, column);
      }
    }
    multiply_weights<false>(block, o, p, v, column);
  }

  // This thread's number i between ranges.
  template <class Block>
  DEEPSEEK_HOST_DEVICE float& kept_sum(const Block& block, int i) const {
    return between[(block.index() * kept + i) * threads + block.rank()];
  }
  // The state becomes that of all ranges so far. Syncs before and after.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void merge_kept(const Block& block, const room& scores, state& sum,
                                       bool begun) const {
    block.sync();  // the notes of the last tile have been read
    DEEPSEEK_UNROLL
    for (int i = 0; i < own_rows; ++i) {
      online& row = sum.row[i];
      for (int bit = 1; bit < row_threads; bit *= 2) {
        row.total += block.shuffle_xor(row.total, bit);
      }
      const int r = own_row(block.rank(), i);
      const merged_ranges merged = merge_ranges_of(scores.before(r), row);
      row = {};
      block.sync_warp();  // the row's sums before have been read
      if (block.rank() % row_threads != 0) continue;
      scores.before(r) = merged.row;
      scores.first(r) = merged.first;
      scores.second(r) = merged.second;
    }
    block.sync();
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int row = part_row(block.lane(), r / 2, r % 2);
      const float first = scores.first(row), second = scores.second(row);
      DEEPSEEK_UNROLL
      for (int n = 0; n < 2 * N; ++n) {
        float& x = sum.o.part[r / 2][n / 2].x[r % 2 * 2 + n % 2];
        x = std::fma(begun ? kept_sum(block, r * 2 * N + n) : 0.0F, first, x * second);
      }
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void put_range(const Block& block, const room& scores, state& sum,
                                      bool begun) const {
    merge_kept(block, scores, sum, begun);
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      DEEPSEEK_UNROLL
      for (int n = 0; n < 2 * N; ++n) {
        kept_sum(block, r * 2 * N + n) = sum.o.part[r / 2][n / 2].x[r % 2 * 2 + n % 2];
      }
    }
    sum.o = {};
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void finish(const Block& block, const task& at, index_t part,
                                   const room& scores, state& sum, bool begun) const {
    merge_kept(block, scores, sum, begun);
    DEEPSEEK_UNROLL
    for (int i = 0; i < own_rows; ++i) finish_row(block, at, part, i, scores);
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int row = part_row(block.lane(), r / 2, r % 2);
      if (!at.rows.holds(row)) continue;
      const finished_row done(scores.before(row));
      const output_row to{part, at.seq.query + at.rows.query(row), at.rows.head(row)};
      DEEPSEEK_UNROLL
      for (int n = 0; n < N; ++n) {
        const auto& x = sum.o.part[r / 2][n].x;
        put_pair(out, parts, to, done, part_column(block.lane(), block.warp() * N + n, 0),
                 x[r % 2 * 2], x[r % 2 * 2 + 1]);
      }
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void finish_row(const Block& block, const task& at, index_t part, int i,
                                       const room& scores) const {
    const int r = own_row(block.rank(), i);
    if (block.rank() % row_threads != 0 || !at.rows.holds(r)) return;
    put_row(out, parts, {part, at.seq.query + at.rows.query(r), at.rows.head(r)}, scores.before(r));
  }
};

}  // namespace deepseek::cuda_attention
