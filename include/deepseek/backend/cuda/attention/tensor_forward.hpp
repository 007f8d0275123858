// SPDX-License-Identifier: Apache-2.0
// Attention forward on tensor cores, bf16 and f16: a warp has M blocks of 16 rows and all columns;
// a block's warps share tiles of 64 keys and of their values, each copied asynchronously while the
// other is used. Scores, softmax and output stay in registers; the weights, rounded to 16 bits, are
// the left factor of the second product. The arithmetic of a row is the same in every shape of
// tile. Tiles that a warp's rows see whole are not masked. A value that is not finite and is hidden
// from some row is left out of the product and added to the rows that see it (without its weight).
// Keys are summed in ranges of 512 at fixed positions, then range by range: a block goes over all
// of them, or a decode step, which has few rows, gives each to a block of its own and merge_ranges
// makes one of them, with the same bits.
// Which keys a block goes over its source says (key_source.hpp): all, or those of a list.
// Source: Dao 2023 (FlashAttention-2), section 3.
#pragma once

#include "deepseek/backend/cuda/attention/fragments.hpp"
#include "deepseek/backend/cuda/attention/key_source.hpp"
#include "deepseek/backend/cuda/attention/ranges.hpp"

namespace deepseek::cuda_attention {

// How a block is made: Warps warps of M x 16 rows, keys of Width and values of ValueWidth elements.
template <class T, int Width, int ValueWidth, int Warps, int M>
struct tensor_shape {
  using type = T;
  static constexpr int width = Width, value_width = ValueWidth, warps = Warps, m = M;
  static constexpr int rows = Warps * M * 16;
};

template <class Shape, class In, class Out, class Spec,
          template <class, class, int> class Source = placed_keys>
struct tensor_forward {
  using T = typename Shape::type;
  using P = std::remove_cvref_t<decltype(Spec::pattern)>;
  using S = typename decltype(Spec::query_offsets)::space;
  using source = Source<P, S, key_tile>;
  using key_place = typename source::tile;
  static_assert(source::hides || !modifies_scores<P>, "positions are those of placed keys");
  using q_tile = row_tile<T, Shape::width>;
  using v_tile = row_tile<T, Shape::value_width>;
  static constexpr int threads = Shape::warps * warp_size, M = Shape::m;
  static constexpr int value_blocks = Shape::value_width / 8, key_blocks = key_tile / 8;
  static constexpr int kept = M * (value_blocks * 4 + 4);  // numbers of a lane between ranges
  static constexpr float log2_e = 1.44269504088896340736F;
  In in;
  Out out;
  Spec spec;
  range_parts<S> parts;

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<Shape::rows, decltype(in.q), decltype(in.k), Spec, source::of_one_query>{
        in.q, in.k, spec, 1, 1};
  }
  index_t blocks() const { return launch().blocks() * parts.count; }
  static constexpr std::size_t tile_bytes =
      sizeof(T) *
      static_cast<std::size_t>(q_tile::size(Shape::rows + key_tile) + v_tile::size(key_tile));
  static constexpr std::size_t most_bytes = tile_bytes + threads * kept * sizeof(float);
  std::size_t shared_bytes() const {
    const bool cut = source::most(in, spec) > range_keys;
    return parts.count == 1 && cut ? most_bytes : tile_bytes;
  }

  // A warp's rows: lane / 4 + 8 h + 16 m for h = 0, 1. row.total: this lane's part of the sum.
  struct warp_state {
    sums<T, M, value_blocks> o;
    online row[M][2];
  };
  struct shared_tiles {
    q_tile q, k;
    v_tile v;
  };
  using task = row_task<S>;

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t part = block.index() % parts.count;
    const task at = launch().task(block.index() / parts.count, block.count() / parts.count);
    if (!at.exists) return;
    T* const memory = reinterpret_cast<T*>(block.shared());
    const shared_tiles tiles{{memory},
                             {memory + q_tile::size(Shape::rows)},
                             {memory + q_tile::size(Shape::rows + key_tile)}};
    warp_state state;
    float* const between = reinterpret_cast<float*>(block.shared() + tile_bytes);
    bool begun = false;  // some range has been put there
    const source keys{spec.pattern, at};
    const index_t first = parts.count == 1 ? 0 : part * range_keys;
    const index_t end =
        parts.count == 1 ? keys.count() : smaller{}(first + range_keys, keys.count());
    copy_rows<Shape::rows>(block, tiles.q, in.q.data(), [&](int r) -> const T* {
      return at.rows.holds(r) ? &in.q(at.seq.query + at.rows.query(r), at.rows.head(r), 0)
                              : nullptr;
    });
    key_place now = keys.first(block, first);
    if (now.k0 < end) copy_keys(block, at, keys, in.k, tiles.k, now);
    mma::commit_copies(block);
    while (now.k0 < end) {
      mma::wait_copies<0>(block);
      block.sync();  // keys are here; nobody reads the values of the last tile
      copy_keys(block, at, keys, in.v, tiles.v, now);
      mma::commit_copies(block);
      const key_place next = keys.after(block, now, end);
      const std::uint64_t seen = bits_of(block, at, now);
      const bool some = block.ballot(seen != 0) != 0, full = block.ballot(~seen != 0) == 0;
      sums<T, M, key_blocks> s;
      if (some) {
        multiply_rows(block, s, tiles.q, block.warp() * M * 16, tiles.k);
        weigh(block, at, {now.k0, seen, full}, s, state);
      }
      mma::wait_copies<0>(block);
      block.sync();  // values are here; nobody reads these keys any more
      if (next.k0 < end) copy_keys(block, at, keys, in.k, tiles.k, next);
      mma::commit_copies(block);
      if (some) add_values(block, {now.k0, seen, full}, s, tiles.v, state);
      if (next.k0 < end && next.k0 / range_keys != now.k0 / range_keys) {
        put_range(block, state, between, begun);
        begun = true;
      }
      now = next;
    }
    mma::wait_copies<0>(block);
    finish(block, at, part, state, begun ? between : nullptr);
  }

  // What follows is the arithmetic of rows, for group_forward too: its block says which warp of the
  // rows a warp is, and has a warp's shuffles.

  // One key tile as a warp sees it: the bits of row `lane`, whether all rows see all of it.
  struct seen_tile {
    index_t k0;
    std::uint64_t bits;
    bool full;
  };

  template <class Block, class View, class Tile>
  DEEPSEEK_HOST_DEVICE void copy_keys(const Block& block, const task& at, const source& keys,
                                      const View& from, const Tile& to,
                                      const key_place& which) const {
    copy_rows<key_tile>(block, to, from.data(), [&](int j) -> const T* {
      const index_t row = keys.memory_row(block, which, j);
      return row >= 0 ? &from(row, at.kv, 0) : nullptr;
    });
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE std::uint64_t bits_of(const Block& block, const task& at,
                                             const key_place& tile) const {
    if constexpr (source::hides) {
      return lane_bits(block, at, tile.k0);
    } else {
      return tile.bits;
    }
  }

  // What row `lane` of the warp sees; a row that does not exist sees all there is.
  template <class Block>
  DEEPSEEK_HOST_DEVICE std::uint64_t lane_bits(const Block& block, const task& at,
                                               index_t k0) const {
    const int r = block.warp() * M * 16 + block.lane() % (M * 16);
    const std::uint64_t there = span_bits(0, at.seq.keys, k0);
    if (!at.rows.holds(r)) return there;
    const P bound = bind_pattern(spec.pattern, at.seq.scope(at.rows.head(r)));
    return there & row_bits(bound, at.seq.start + at.rows.query(r), k0);
  }

  // Scores of the warp's rows become weights; what was summed is scaled to the new maximum.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const task& at, const seen_tile& tile,
                                  sums<T, M, key_blocks>& s, warp_state& state) const {
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int m = r / 2, h = r % 2;
      const float factor = weigh_row(block, at, tile, r, s.part[m], state.row[m][h]);
      DEEPSEEK_UNROLL
      for (int n = 0; n < value_blocks; ++n) {
        DEEPSEEK_UNROLL
        for (int i = 0; i < 2; ++i) state.o.part[m][n].x[2 * h + i] *= factor;
      }
    }
  }
  // The same of rows r / 2, r % 2 alone: gives by what their earlier sums are to be scaled.
  template <class Block>
  DEEPSEEK_HOST_DEVICE float weigh_row(const Block& block, const task& at, const seen_tile& tile,
                                       int r, mma::c_part<T> (&s)[key_blocks], online& row) const {
    const int h = r % 2, place = part_row(block.lane(), r / 2, h);
    const std::uint64_t bits = tile.full ? ~std::uint64_t{0} : block.shuffle(tile.bits, place);
    float top = nothing_seen;
    scale_row(block, at, tile.k0, block.warp() * M * 16 + place, s, h);
    DEEPSEEK_UNROLL
    for (int n = 0; n < key_blocks; ++n) {
      DEEPSEEK_UNROLL
      for (int i = 0; i < 2; ++i) {
        float& x = s[n].x[2 * h + i];
        if (!tile.full && (bits >> part_column(block.lane(), n, i) & 1) == 0) x = nothing_seen;
        top = larger{}(top, x);
      }
    }
    top = larger{}(top, block.shuffle_xor(top, 1));
    top = larger{}(top, block.shuffle_xor(top, 2));
    top = larger{}(row.top, top);
    const float shift = top == nothing_seen ? 0.0F : top;
    const float factor = std::exp2(row.top - shift);
    float sum = 0;
    DEEPSEEK_UNROLL
    for (int n = 0; n < key_blocks; ++n) {
      DEEPSEEK_UNROLL
      for (int i = 0; i < 2; ++i) {
        float& x = s[n].x[2 * h + i];
        x = std::exp2(x - shift);
        sum += x;
      }
    }
    row = {top, row.total * factor + sum};
    return factor;
  }
  // Products become scores times log2 e.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void scale_row(const Block& block, const task& at, index_t k0, int r,
                                      mma::c_part<T> (&s)[key_blocks], int h) const {
    const float scale = static_cast<float>(spec.scale);
    if constexpr (modifies_scores<P>) {
      const P bound = bind_pattern(spec.pattern, at.seq.scope(at.rows.head(r)));
      const index_t q = at.seq.start + at.rows.query(r);
      DEEPSEEK_UNROLL
      for (int n = 0; n < key_blocks; ++n) {
        DEEPSEEK_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& x = s[n].x[2 * h + i];
          x = log2_e *
              modify_score(bound, x * scale, q, k0 + part_column(block.lane(), n, i)).score;
        }
      }
    } else {
      const float factor = scale * log2_e;
      DEEPSEEK_UNROLL
      for (int n = 0; n < key_blocks; ++n) {
        DEEPSEEK_UNROLL
        for (int i = 0; i < 2; ++i) s[n].x[2 * h + i] *= factor;
      }
    }
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_values(const Block& block, const seen_tile& tile,
                                       const sums<T, M, key_blocks>& p, const v_tile& v,
                                       warp_state& state) const {
    std::uint64_t bits[M][2];
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      bits[r / 2][r % 2] = block.shuffle(tile.bits, part_row(block.lane(), r / 2, r % 2));
    }
    multiply_seen<key_tile / 16>(
        block, state.o, p, v, !tile.full,
        [&](int m, int h, int j) { return (bits[m][h] >> j & 1) != 0; }, value_itself{});
  }

  // What this lane keeps of o[m][n].x[2 h + i], and of row m, h, between ranges.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static float& kept_sum(const Block& block, float* between, int i) {
    return between[(block.warp() * kept + i) * warp_size + block.lane()];
  }
  // The sum of row m, h over its four lanes.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void add_lanes(const Block& block, online& row) {
    row.total += block.shuffle_xor(row.total, 1);
    row.total += block.shuffle_xor(row.total, 2);
  }
  // The state becomes that of all ranges so far.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void merge_kept(const Block& block, warp_state& state,
                                              float* between) {
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int m = r / 2, h = r % 2;
      online before;
      if (between != nullptr) {
        before.top = kept_sum(block, between, M * value_blocks * 4 + 2 * r);
        before.total = kept_sum(block, between, M * value_blocks * 4 + 2 * r + 1);
      }
      add_lanes(block, state.row[m][h]);
      const merged_ranges merged = merge_ranges_of(before, state.row[m][h]);
      state.row[m][h] = merged.row;
      DEEPSEEK_UNROLL
      for (int n = 0; n < 2 * value_blocks; ++n) {
        float& x = state.o.part[m][n / 2].x[2 * h + n % 2];
        const int place = (r * value_blocks * 2) + n;
        x = merged(between != nullptr ? kept_sum(block, between, place) : 0.0F, x);
      }
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void put_range(const Block& block, warp_state& state, float* between,
                                             bool begun) {
    merge_kept(block, state, begun ? between : nullptr);
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const online& row = state.row[r / 2][r % 2];
      kept_sum(block, between, M * value_blocks * 4 + 2 * r) = row.top;
      kept_sum(block, between, M * value_blocks * 4 + 2 * r + 1) = row.total;
      DEEPSEEK_UNROLL
      for (int n = 0; n < 2 * value_blocks; ++n) {
        kept_sum(block, between, r * value_blocks * 2 + n) =
            state.o.part[r / 2][n / 2].x[r % 2 * 2 + n % 2];
      }
    }
    state = warp_state{};
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void finish(const Block& block, const task& at, index_t part,
                                   warp_state& state, float* between) const {
    merge_kept(block, state, between);
    DEEPSEEK_UNROLL
    for (int r = 0; r < 2 * M; ++r) {
      const int row = block.warp() * M * 16 + part_row(block.lane(), r / 2, r % 2);
      if (!at.rows.holds(row)) continue;
      const online& sum = state.row[r / 2][r % 2];
      const output_row to{part, at.seq.query + at.rows.query(row), at.rows.head(row)};
      const finished_row done(sum);
      DEEPSEEK_UNROLL
      for (int n = 0; n < value_blocks; ++n) {
        const auto& x = state.o.part[r / 2][n].x;
        put_pair(out, parts, to, done, part_column(block.lane(), n, 0), x[r % 2 * 2],
                 x[r % 2 * 2 + 1]);
      }
      if (block.lane() % 4 == 0) put_row(out, parts, to, sum);
    }
  }
};

}  // namespace deepseek::cuda_attention
