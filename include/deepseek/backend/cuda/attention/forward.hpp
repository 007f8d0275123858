// SPDX-License-Identifier: Apache-2.0
// Attention forward for any types, strides and widths, in plain multiply-adds (pairs.hpp): a block
// has 16 rows of one key-value head and up to `most_columns` columns of the values (wider values
// are cut, their scores computed again). For each key tile that some row sees
//   m' = max(m, max s), a = e^(m - m'), p = e^(s - m'), l = a l + sum p, o = a o + p v,
// at the end o / l and lse = m + log l; a row that saw nothing has m = -inf, l = 0: o = 0.
// A masked pair is left out of every sum. Sources: Milakov and Gimelshein 2018; Dao 2023, 3.1.
#pragma once

#include "deepseek/backend/cuda/attention/pairs.hpp"
#include "deepseek/backend/cuda/attention/row_launch.hpp"

namespace deepseek::cuda_attention {

template <class A>
inline constexpr index_t most_columns = 2048 / sizeof(A);

// What this thread's row sees among the keys from k0 on goes to room.bits; then to room.columns.
// Returns the bits of all rows together. Syncs before and after.
template <class A, class Block>
DEEPSEEK_HOST_DEVICE std::uint64_t share_bits(const Block& block, pair_room<A>& room,
                                              std::uint64_t mine) {
  block.sync();
  if (block.rank() % row_lanes == 0) room.bits[block.rank() / row_lanes] = mine;
  block.sync();
  std::uint64_t any = 0;
  for (int r = 0; r < few; ++r) any |= room.bits[r];
  turn_bits(block, room);
  return any;
}

template <class In, class Out, class Spec>
struct pair_forward {
  using A = accumulate_t<typename decltype(Out::o)::value_type>;
  using P = std::remove_cvref_t<decltype(Spec::pattern)>;
  static constexpr int threads = pair_threads;
  static constexpr A nothing = -std::numeric_limits<A>::infinity();
  In in;
  Out out;
  Spec spec;

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<few, decltype(in.q), decltype(in.k), Spec>{in.q, in.k, spec, in.v.extent(2),
                                                                 most_columns<A>};
  }
  index_t blocks() const { return launch().blocks(); }
  std::size_t shared_bytes() const {
    const index_t width = in.v.extent(2) < most_columns<A> ? in.v.extent(2) : most_columns<A>;
    return sizeof(pair_room<A>) + static_cast<std::size_t>(few * width) * sizeof(A);
  }

  // The running maximum and sum of a row; each of its eight threads has them.
  struct online {
    A top = nothing, total = 0;
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const auto at = launch().task(block.index(), block.count());
    if (!at.exists) return;
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared());
    A* const sums = reinterpret_cast<A*>(&room + 1);
    for_own_columns(block, at.columns, [&](int r, index_t c) { sums[r * at.columns + c] = 0; });
    const int r = block.rank() / row_lanes;
    const P pattern = bind_pattern(spec.pattern, at.seq.scope(at.rows.head(r)));
    online row;
    for (index_t k0 = next_tile(block, spec.pattern, at.seq, at.rows, 0); k0 < at.seq.keys;
         k0 = next_tile(block, spec.pattern, at.seq, at.rows, k0 + key_tile)) {
      std::uint64_t mine = 0;
      if (block.rank() % row_lanes == 0 && at.rows.holds(r)) {
        mine =
            span_bits(0, at.seq.keys, k0) & row_bits(pattern, at.seq.start + at.rows.query(r), k0);
      }
      if (share_bits(block, room, mine) == 0) continue;
      weigh(block, at, pattern, k0, room, row);
      block.sync();
      for_own_columns(block, at.columns,
                      [&](int i, index_t c) { sums[i * at.columns + c] *= room.scales[i]; });
      add_columns(
          block, room, room.weights, at.columns,
          [&](int j, index_t c) {
            return static_cast<A>(in.v(at.seq.key_row(k0 + j), at.kv, at.first_column + c));
          },
          sums);
    }
    finish(block, at, room, row, sums);
  }

  // The weights of one key tile, and by what the sums so far are scaled.
  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const Task& at, const P& pattern, index_t k0,
                                  pair_room<A>& room, online& row) const {
    const int r = block.rank() / row_lanes, lane = block.rank() % row_lanes;
    A s[row_each];
    pair_products(
        block, room, in.q.extent(2),
        [&](int i, index_t c) {
          const index_t token = at.seq.query + at.rows.query(i);
          return at.rows.holds(i) ? static_cast<A>(in.q(token, at.rows.head(i), c)) : A(0);
        },
        [&](int j, index_t c) {
          return k0 + j < at.seq.keys ? static_cast<A>(in.k(at.seq.key_row(k0 + j), at.kv, c))
                                      : A(0);
        },
        s);
    const index_t q = at.seq.start + at.rows.query(r);
    A top = nothing;
    for (int i = 0; i < row_each; ++i) {
      const int j = lane + i * row_lanes;
      const bool seen = (room.bits[r] >> j & 1) != 0;
      s[i] = seen ? modify_score(pattern, s[i] * static_cast<A>(spec.scale), q, k0 + j).score
                  : nothing;
      top = larger{}(top, s[i]);
    }
    top = larger{}(row.top, combine_row(block, top, larger{}));
    const A shift = top == nothing ? A(0) : top;
    A scale = 1, sum = 0;
    if (top != row.top) {
      scale = std::exp(row.top - shift);
      row.total *= scale;
      row.top = top;
    }
    for (int i = 0; i < row_each; ++i) {
      const A p = std::exp(s[i] - shift);
      room.weights[r * many + lane + i * row_lanes] = p;
      sum += p;
    }
    row.total += combine_row(block, sum, plus{});
    if (lane == 0) room.scales[r] = scale;
  }

  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void finish(const Block& block, const Task& at, pair_room<A>& room,
                                   const online& row, const A* sums) const {
    const int r = block.rank() / row_lanes;
    const bool empty = row.total == A(0);
    block.sync();
    if (block.rank() % row_lanes == 0) room.scales[r] = empty ? nothing : row.total;
    block.sync();
    for_own_columns(block, at.columns, [&](int i, index_t c) {
      if (!at.rows.holds(i)) return;
      const A total = room.scales[i];
      out.o(at.seq.query + at.rows.query(i), at.rows.head(i), at.first_column + c) =
          static_cast<typename decltype(out.o)::value_type>(
              total == nothing ? A(0) : sums[i * at.columns + c] / total);
    });
    if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
      if (block.rank() % row_lanes != 0 || !at.rows.holds(r) || at.first_column > 0) return;
      const A top = row.top == nothing ? A(0) : row.top;
      out.lse(at.seq.query + at.rows.query(r), at.rows.head(r)) =
          static_cast<typename decltype(out.lse)::value_type>(empty ? nothing
                                                                    : top + std::log(row.total));
    }
  }
};

}  // namespace deepseek::cuda_attention
