// SPDX-License-Identifier: Apache-2.0
// Attention forward on tensor cores, bf16 and f16: a warp has M blocks of 16 rows and all columns;
// a block's warps share tiles of 64 keys and of their values, each copied asynchronously while the
// other is used. Scores, softmax and output stay in registers; the weights, rounded to 16 bits, are
// the left factor of the second product. The arithmetic of a row is the same in every shape of tile.
// Tiles that a warp's rows see whole are not masked. A value that is not finite and is hidden from
// some row is left out of the product and added to the rows that see it (without its weight).
// Keys may be cut into ranges of `split` (a decode step has few rows), merged by merge_splits.
// Source: Dao 2023 (FlashAttention-2), section 3.
#pragma once

#include "deepseek/backend/cuda/attention/fragments.hpp"

#include <cmath>

namespace deepseek::cuda_attention {

// How a block is made: Warps warps of M x 16 rows, keys of Width and values of ValueWidth elements.
template <class T, int Width, int ValueWidth, int Warps, int M>
struct tensor_shape {
  using type = T;
  static constexpr int width = Width, value_width = ValueWidth, warps = Warps, m = M;
  static constexpr int rows = Warps * M * 16;
};

// Where a range of the keys is written: o and lse of it alone.
template <class S>
struct split_parts {
  index_t split = no_key;             // keys of a range
  index_t count = 1;                  // ranges
  view<float, S, dyn, dyn, dyn, dyn> o = {};  // [ranges, queries, heads, dv]
  view<float, S, dyn, dyn, dyn> lse = {};     // [ranges, queries, heads]
};

template <class Shape, class In, class Out, class Spec>
struct tensor_forward {
  using T = typename Shape::type;
  using P = std::remove_cvref_t<decltype(Spec::pattern)>;
  using S = typename decltype(Spec::query_offsets)::space;
  using q_tile = row_tile<T, Shape::width>;
  using v_tile = row_tile<T, Shape::value_width>;
  static constexpr int threads = Shape::warps * warp_size, M = Shape::m;
  static constexpr int value_blocks = Shape::value_width / 8, key_blocks = key_tile / 8;
  static constexpr float nothing = -std::numeric_limits<float>::infinity();
  static constexpr float log2_e = 1.44269504088896340736F, ln_2 = 0.69314718055994530942F;
  In in;
  Out out;
  Spec spec;
  split_parts<S> parts;

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<Shape::rows, decltype(in.q), decltype(in.k), Spec>{in.q, in.k, spec, 1, 1};
  }
  index_t blocks() const { return launch().blocks() * parts.count; }
  static std::size_t shared_bytes() {
    return sizeof(T) * static_cast<std::size_t>(q_tile::size(Shape::rows + key_tile) +
                                                v_tile::size(key_tile));
  }

  // The running maximum (of scores times log2 e) and this lane's part of the sum, of a row.
  struct online {
    float top = nothing, total = 0;
  };
  // A warp's rows: lane / 4 + 8 h + 16 m for h = 0, 1.
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
    const index_t first = part * (parts.count == 1 ? 0 : parts.split);
    const index_t end = parts.count == 1 ? at.seq.keys : smaller{}(first + parts.split, at.seq.keys);
    copy_rows<Shape::rows>(block, tiles.q, in.q.data(), [&](int r) -> const T* {
      return at.rows.holds(r) ? &in.q(at.seq.query + at.rows.query(r), at.rows.head(r), 0)
                              : nullptr;
    });
    index_t k0 = next_shared_tile(block, spec.pattern, at.seq, at.rows, first);
    if (k0 < end) copy_keys(block, at, in.k, tiles.k, k0);
    mma::commit_copies(block);
    while (k0 < end) {
      mma::wait_copies<0>(block);
      block.sync();  // keys are here; nobody reads the values of the last tile
      copy_keys(block, at, in.v, tiles.v, k0);
      mma::commit_copies(block);
      const index_t next = next_shared_tile(block, spec.pattern, at.seq, at.rows, k0 + key_tile);
      const std::uint64_t seen = lane_bits(block, at, k0);
      const bool some = block.ballot(seen != 0) != 0, full = block.ballot(~seen != 0) == 0;
      sums<T, M, key_blocks> s;
      if (some) {
        multiply_rows(block, s, tiles.q, block.warp() * M * 16, tiles.k);
        weigh(block, at, {k0, seen, full}, s, state);
      }
      mma::wait_copies<0>(block);
      block.sync();  // values are here; nobody reads these keys any more
      if (next < end) copy_keys(block, at, in.k, tiles.k, next);
      mma::commit_copies(block);
      if (some) add_values(block, {k0, seen, full}, s, tiles.v, state);
      k0 = next;
    }
    mma::wait_copies<0>(block);
    finish(block, at, part, state);
  }

 private:
  // One key tile as a warp sees it: the bits of row `lane`, whether all rows see all of it.
  struct seen_tile {
    index_t k0;
    std::uint64_t bits;
    bool full;
  };

  template <class Block, class View, class Tile>
  DEEPSEEK_HOST_DEVICE void copy_keys(const Block& block, const task& at, const View& from,
                                      const Tile& to, index_t k0) const {
    copy_rows<key_tile>(block, to, from.data(), [&](int j) -> const T* {
      return k0 + j < at.seq.keys ? &from(at.seq.key_row(k0 + j), at.kv, 0) : nullptr;
    });
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

  // Scores of one row become weights; what was summed is scaled to the new maximum.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const task& at, const seen_tile& tile,
                                  sums<T, M, key_blocks>& s, warp_state& state) const {
    DEEPSEEK_UNROLL
    for (int m = 0; m < M; ++m) {
      DEEPSEEK_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int r = part_row(block.lane(), m, h);
        const std::uint64_t bits = tile.full ? ~std::uint64_t{0} : block.shuffle(tile.bits, r);
        float top = nothing;
        scale_row(block, at, tile.k0, block.warp() * M * 16 + r, s.part[m], h);
        DEEPSEEK_UNROLL
        for (int n = 0; n < key_blocks; ++n) {
          DEEPSEEK_UNROLL
          for (int i = 0; i < 2; ++i) {
            float& x = s.part[m][n].x[2 * h + i];
            if (!tile.full && (bits >> part_column(block.lane(), n, i) & 1) == 0) x = nothing;
            top = larger{}(top, x);
          }
        }
        top = larger{}(top, block.shuffle_xor(top, 1));
        top = larger{}(top, block.shuffle_xor(top, 2));
        online& row = state.row[m][h];
        top = larger{}(row.top, top);
        const float shift = top == nothing ? 0.0F : top;
        const float factor = std::exp2(row.top - shift);
        float sum = 0;
        DEEPSEEK_UNROLL
        for (int n = 0; n < key_blocks; ++n) {
          DEEPSEEK_UNROLL
          for (int i = 0; i < 2; ++i) {
            float& x = s.part[m][n].x[2 * h + i];
            x = std::exp2(x - shift);
            sum += x;
          }
        }
        row.top = top;
        row.total = row.total * factor + sum;
        DEEPSEEK_UNROLL
        for (int n = 0; n < value_blocks; ++n) {
          DEEPSEEK_UNROLL
          for (int i = 0; i < 2; ++i) state.o.part[m][n].x[2 * h + i] *= factor;
        }
      }
    }
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

  template <class Block>
  DEEPSEEK_HOST_DEVICE void finish(const Block& block, const task& at, index_t part,
                                   warp_state& state) const {
    DEEPSEEK_UNROLL
    for (int m = 0; m < M; ++m) {
      DEEPSEEK_UNROLL
      for (int h = 0; h < 2; ++h) {
        online& row = state.row[m][h];
        row.total += block.shuffle_xor(row.total, 1);
        row.total += block.shuffle_xor(row.total, 2);
        const int r = block.warp() * M * 16 + part_row(block.lane(), m, h);
        if (!at.rows.holds(r)) continue;
        const bool empty = row.total == 0;
        const float lse = empty ? nothing : (row.top + std::log2(row.total)) * ln_2;
        const index_t token = at.seq.query + at.rows.query(r), head = at.rows.head(r);
        DEEPSEEK_UNROLL
        for (int n = 0; n < value_blocks; ++n) {
          const auto& x = state.o.part[m][n].x;
          const float low = empty ? 0.0F : x[2 * h] / row.total;
          const float high = empty ? 0.0F : x[2 * h + 1] / row.total;
          write(token, head, part, part_column(block.lane(), n, 0), low, high);
        }
        if (block.lane() % 4 == 0) write_lse(token, head, part, lse);
      }
    }
  }
  DEEPSEEK_HOST_DEVICE void write(index_t token, index_t head, index_t part, int c, float low,
                                  float high) const {
    if (parts.count > 1) {
      float* const to = &parts.o(part, token, head, c);
      to[0] = low;
      to[1] = high;
    } else {
      *reinterpret_cast<std::uint32_t*>(&out.o(token, head, c)) = mma::pack<T>(low, high);
    }
  }
  DEEPSEEK_HOST_DEVICE void write_lse(index_t token, index_t head, index_t part, float lse) const {
    if (parts.count > 1) {
      parts.lse(part, token, head) = lse;
    } else if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
      out.lse(token, head) = static_cast<typename decltype(out.lse)::value_type>(lse);
    }
  }
};

// The ranges of the keys of one query of one head become one, in order.
template <class Out, class S>
struct merge_splits {
  using T = typename decltype(Out::o)::value_type;
  Out out;
  split_parts<S> parts;
  static constexpr float nothing = -std::numeric_limits<float>::infinity();
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t i) const {
    const index_t token = i / out.o.extent(1), head = i % out.o.extent(1);
    float top = nothing, total = 0;
    for (index_t s = 0; s < parts.count; ++s) top = larger{}(top, parts.lse(s, token, head));
    const float shift = top == nothing ? 0.0F : top;
    for (index_t s = 0; s < parts.count; ++s) total += std::exp(parts.lse(s, token, head) - shift);
    for (index_t c = team.rank(); c < out.o.extent(2); c += team.size()) {
      float sum = 0;
      for (index_t s = 0; s < parts.count; ++s) {
        const float share = std::exp(parts.lse(s, token, head) - shift);
        if (share != 0) sum += share * parts.o(s, token, head, c);
      }
      out.o(token, head, c) = static_cast<T>(total == 0 ? 0.0F : sum / total);
    }
    if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
      if (team.rank() != 0) return;
      out.lse(token, head) = static_cast<typename decltype(out.lse)::value_type>(
          total == 0 ? nothing : shift + std::log(total));
    }
  }
};

}  // namespace deepseek::cuda_attention
