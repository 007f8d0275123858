// SPDX-License-Identifier: Apache-2.0
// Attention backward on tensor cores, bf16 and f16 (formulas: backward.hpp). dq: a block has 64
// rows, a warp 16 of them, and goes over the key tiles. dk, dv: a block has 64 keys, a warp 16, and
// goes over the rows that may see them. Weights and their gradients are computed in both, in
// registers, and rounded to 16 bits as left factors; the scale is applied at the end. No atomics:
// each element is one sum of fixed order. NaN as in tensor_forward.hpp. Source: Dao 2023, 3.1.2.
#pragma once

#include "deepseek/backend/cuda/attention/backward.hpp"
#include "deepseek/backend/cuda/attention/fragments.hpp"

namespace deepseek::cuda_attention {

template <class T, int Width, int ValueWidth>
struct gradient_shape {
  using type = T;
  static constexpr int width = Width, value_width = ValueWidth, warps = 4;
  static constexpr int rows = Width > 128 ? 16 : Width > 64 ? 32 : 64;  // of a tile that dk, dv go over
  static constexpr int stages = Width > 128 ? 1 : 2;  // of the tiles that dq goes over
};

inline constexpr float log2_of_e = 1.44269504088896340736F;

// p and ds / scale of one pair: s the product q . k, lse in units of log 2.
struct pair_numbers {
  float lse, delta;
};
template <class P>
struct pair_scores {
  float scale;
  struct result {
    float p, ds;
  };
  DEEPSEEK_HOST_DEVICE result operator()(const P& bound, float s, float dp, const pair_numbers& at,
                                         index_t q, index_t k) const {
    if constexpr (modifies_scores<P>) {
      const modified_score<float> now = modify_score(bound, s * scale, q, k);
      const float p = std::exp2(now.score * log2_of_e - at.lse);
      return {p, p * (dp - at.delta) * now.slope};
    } else {
      const float p = std::exp2(s * (scale * log2_of_e) - at.lse);
      return {p, p * (dp - at.delta)};
    }
  }
};

template <class To, class T>
DEEPSEEK_HOST_DEVICE void write_two(const To& to, index_t token, index_t head, int c, float low,
                                    float high) {
  *reinterpret_cast<std::uint32_t*>(&to(token, head, c)) = mma::pack<T>(low, high);
}

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
        seq, block.index() % dk.extent(1), where.tile * keys,
        from.in.q.extent(1) / dk.extent(1)};
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
