// SPDX-License-Identifier: Apache-2.0
// Attention backward for any types, strides and widths, in plain multiply-adds (pairs.hpp), with p
// recomputed from lse:
//   p = e^(s - lse), dp = do v^T, ds = scale p (dp - sum(do o)), times a score modifier's slope,
//   dq += ds k (blocks of 16 rows over the keys), dv += p^T do, dk += ds^T q (blocks of 16 keys
//   over
// the rows). No atomics: each element is one sum in the order of keys or rows. A masked pair is
// left out of every sum. Source: Dao 2023 (FlashAttention-2), section 3.1.2.
#pragma once

#include "deepseek/backend/cuda/attention/forward.hpp"

namespace deepseek::cuda_attention {

template <class A>
inline constexpr index_t most_gradient_columns = 1024 / sizeof(A);

// delta = sum(do o) of one query of one head.
template <class O, class DO, class D>
struct output_dots {
  using A = typename D::value_type;
  O o;
  DO d_o;
  D delta;  // [queries, heads]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t i) const {
    const index_t row = i / o.extent(1), h = i % o.extent(1);
    A sum = 0;
    for (index_t c = team.rank(); c < o.extent(2); c += team.size()) {
      sum += static_cast<A>(d_o(row, h, c)) * static_cast<A>(o(row, h, c));
    }
    sum = team.sum(sum);
    if (team.rank() == 0) delta(row, h) = sum;
  }
};

// What backward reads.
template <class In, class Lse, class DO, class D, class Spec>
struct backward_inputs {
  using A = typename D::value_type;
  using P = std::remove_cvref_t<decltype(Spec::pattern)>;
  static constexpr A nothing = -std::numeric_limits<A>::infinity();
  In in;
  Lse lse;
  DO d_o;
  D delta;
  Spec spec;

  DEEPSEEK_HOST_DEVICE A q(index_t token, index_t h, index_t c) const {
    return static_cast<A>(in.q(token, h, c));
  }
  DEEPSEEK_HOST_DEVICE bool saw_nothing(index_t token, index_t h) const {
    return static_cast<A>(lse(token, h)) == nothing;
  }
  // p and ds of one pair, from the products of its rows.
  struct weights {
    A p, ds;
  };
  DEEPSEEK_HOST_DEVICE weights weigh(const modified_score<A>& s, A dp, index_t token,
                                     index_t h) const {
    const A p = std::exp(s.score - static_cast<A>(lse(token, h)));
    return {p, p * (dp - delta(token, h)) * static_cast<A>(spec.scale) * s.slope};
  }
};

template <class Inputs, class DQ>
struct query_gradients {
  using A = typename Inputs::A;
  using P = typename Inputs::P;
  static constexpr int threads = pair_threads;
  Inputs from;
  DQ dq;

  DEEPSEEK_HOST_DEVICE auto launch() const {
    return row_launch<few, decltype(from.in.q), decltype(from.in.k), decltype(from.spec)>{
        from.in.q, from.in.k, from.spec, dq.extent(2), most_gradient_columns<A>};
  }
  index_t blocks() const { return launch().blocks(); }
  std::size_t shared_bytes() const {
    const index_t width =
        dq.extent(2) < most_gradient_columns<A> ? dq.extent(2) : most_gradient_columns<A>;
    return sizeof(pair_room<A>) + static_cast<std::size_t>(few * width) * sizeof(A);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const auto at = launch().task(block.index(), block.count());
    if (!at.exists) return;
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared());
    A* const sums = reinterpret_cast<A*>(&room + 1);
    for_own_columns(block, at.columns, [&](int r, index_t c) { sums[r * at.columns + c] = 0; });
    const int r = block.rank() / row_lanes;
    const P pattern = bind_pattern(from.spec.pattern, at.seq.scope(at.rows.head(r)));
    for (index_t k0 = next_tile(block, from.spec.pattern, at.seq, at.rows, 0); k0 < at.seq.keys;
         k0 = next_tile(block, from.spec.pattern, at.seq, at.rows, k0 + key_tile)) {
      std::uint64_t mine = 0;
      if (block.rank() % row_lanes == 0 && at.rows.holds(r) &&
          !from.saw_nothing(at.seq.query + at.rows.query(r), at.rows.head(r))) {
        mine =
            span_bits(0, at.seq.keys, k0) & row_bits(pattern, at.seq.start + at.rows.query(r), k0);
      }
      if (share_bits(block, room, mine) == 0) continue;
      weigh(block, at, pattern, k0, room);
      block.sync();
      add_columns(
          block, room, room.weights, at.columns,
          [&](int j, index_t c) {
            return static_cast<A>(from.in.k(at.seq.key_row(k0 + j), at.kv, at.first_column + c));
          },
          sums);
    }
    for_own_columns(block, at.columns, [&](int i, index_t c) {
      if (!at.rows.holds(i)) return;
      dq(at.seq.query + at.rows.query(i), at.rows.head(i), at.first_column + c) =
          static_cast<typename DQ::value_type>(sums[i * at.columns + c]);
    });
  }

  template <class Block, class Task>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const Task& at, const P& pattern, index_t k0,
                                  pair_room<A>& room) const {
    const int r = block.rank() / row_lanes, lane = block.rank() % row_lanes;
    const auto& in = from.in;
    const auto row_of = [&](const auto& x) {
      return [&](int i, index_t c) {
        const index_t token = at.seq.query + at.rows.query(i);
        return at.rows.holds(i) ? static_cast<A>(x(token, at.rows.head(i), c)) : A(0);
      };
    };
    const auto key_of = [&](const auto& x) {
      return [&](int j, index_t c) {
        return k0 + j < at.seq.keys ? static_cast<A>(x(at.seq.key_row(k0 + j), at.kv, c)) : A(0);
      };
    };
    A s[row_each], dp[row_each];
    pair_products(block, room, in.q.extent(2), row_of(in.q), key_of(in.k), s);
    pair_products(block, room, in.v.extent(2), row_of(from.d_o), key_of(in.v), dp);
    const index_t q = at.seq.start + at.rows.query(r), token = at.seq.query + at.rows.query(r);
    for (int i = 0; i < row_each; ++i) {
      const int j = lane + i * row_lanes;
      A ds = 0;
      if ((room.bits[r] >> j & 1) != 0) {
        const A score = s[i] * static_cast<A>(from.spec.scale);
        ds = from.weigh(modify_score(pattern, score, q, k0 + j), dp[i], token, at.rows.head(r)).ds;
      }
      room.weights[r * many + j] = ds;
    }
  }
};

template <class Inputs, class DK, class DV>
struct key_gradients {
  using A = typename Inputs::A;
  using P = typename Inputs::P;
  static constexpr int threads = pair_threads;
  Inputs from;
  DK dk;
  DV dv;

  DEEPSEEK_HOST_DEVICE index_t width() const {
    return dk.extent(2) > dv.extent(2) ? dk.extent(2) : dv.extent(2);
  }
  DEEPSEEK_HOST_DEVICE index_t chunks() const {
    const index_t n = (width() + most_gradient_columns<A> - 1) / most_gradient_columns<A>;
    return n > 1 ? n : 1;
  }
  index_t blocks() const {
    return slot_count(from.spec.key_offsets, dk.extent(0), few) * dk.extent(1) * chunks();
  }
  std::size_t shared_bytes() const {
    const index_t w = width() < most_gradient_columns<A> ? width() : most_gradient_columns<A>;
    return sizeof(pair_room<A>) + static_cast<std::size_t>(2 * few * w) * sizeof(A);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t column = block.index() % chunks() * most_gradient_columns<A>;
    const index_t kv = block.index() / chunks() % dk.extent(1);
    const auto where = slot_at(from.spec.key_offsets, few, block.index() / chunks() / dk.extent(1));
    const auto seq =
        sequence_at(from.spec, where.sequence, from.in.q.extent(0), from.in.k.extent(0));
    const index_t k0 = where.tile * few;
    if (k0 >= seq.keys) return;
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared());
    const index_t k_columns = here(dk.extent(2), column), v_columns = here(dv.extent(2), column);
    A* const k_sums = reinterpret_cast<A*>(&room + 1);
    A* const v_sums = k_sums + few * k_columns;
    for_own_columns(block, k_columns, [&](int r, index_t c) { k_sums[r * k_columns + c] = 0; });
    for_own_columns(block, v_columns, [&](int r, index_t c) { v_sums[r * v_columns + c] = 0; });
    const index_t group = from.in.q.extent(1) / dk.extent(1);
    for (index_t first = 0; first < seq.queries * group; first += many) {
      if (!weigh(block, seq, {first, group, kv, k0}, room)) continue;
      const auto token = [&](int j) { return seq.query + (first + j) / group; };
      const auto head = [&](int j) { return kv * group + (first + j) % group; };
      add_columns(
          block, room, room.weights, k_columns,
          [&](int j, index_t c) { return from.q(token(j), head(j), column + c); }, k_sums);
      add_columns(
          block, room, room.more_weights, v_columns,
          [&](int j, index_t c) { return static_cast<A>(from.d_o(token(j), head(j), column + c)); },
          v_sums);
    }
    write(block, {seq.key + k0, seq.keys - k0, kv, column}, k_sums, k_columns, dk);
    write(block, {seq.key + k0, seq.keys - k0, kv, column}, v_sums, v_columns, dv);
  }

 private:
  DEEPSEEK_HOST_DEVICE static index_t here(index_t width, index_t column) {
    const index_t left = width - column;
    return left < 0 ? 0 : left < most_gradient_columns<A> ? left : most_gradient_columns<A>;
  }
  struct place {
    index_t key, keys, kv, column;
  };
  template <class Block, class To>
  DEEPSEEK_HOST_DEVICE void write(const Block& block, const place& at, const A* sums,
                                  index_t columns, const To& to) const {
    for_own_columns(block, columns, [&](int r, index_t c) {
      if (r < at.keys) {
        to(at.key + r, at.kv, at.column + c) =
            static_cast<typename To::value_type>(sums[r * columns + c]);
      }
    });
  }

  // 64 rows from `first` against the 16 keys from k0 on; false: none of them sees one.
  struct row_tile {
    index_t first, group, kv, k0;
  };
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE bool weigh(const Block& block, const Seq& seq, const row_tile& at,
                                  pair_room<A>& room) const {
    const index_t total = seq.queries * at.group;
    const auto query = [&](int j) { return (at.first + j) / at.group; };
    const auto head = [&](int j) { return at.kv * at.group + (at.first + j) % at.group; };
    const index_t last = at.first + many < total ? at.first + many : total;
    const row_group rows{query(0), (last - 1) / at.group + 1 - query(0), at.kv * at.group,
                         static_cast<int>(at.group), static_cast<int>(at.group)};
    if (next_tile(block, from.spec.pattern, seq, rows, at.k0) >= smaller{}(at.k0 + few, seq.keys)) {
      return false;
    }
    for (int j = block.rank(); j < many; j += pair_threads) {
      std::uint32_t seen = 0;
      if (at.first + j < total && !from.saw_nothing(seq.query + query(j), head(j))) {
        const P bound = bind_pattern(from.spec.pattern, seq.scope(head(j)));
        seen = static_cast<std::uint32_t>(row_bits(bound, seq.start + query(j), at.k0) &
                                          span_bits(0, seq.keys, at.k0)) &
               ((1U << few) - 1);
      }
      room.columns[j] = seen;
    }
    const auto row_of = [&](const auto& x) {
      return [&](int j, index_t c) {
        return at.first + j < total ? static_cast<A>(x(seq.query + query(j), head(j), c)) : A(0);
      };
    };
    const auto key_of = [&](const auto& x) {
      return [&](int i, index_t c) {
        return at.k0 + i < seq.keys ? static_cast<A>(x(seq.key + at.k0 + i, at.kv, c)) : A(0);
      };
    };
    const auto& in = from.in;
    A s[row_each], dp[row_each];
    pair_products(block, room, in.q.extent(2), key_of(in.k), row_of(in.q), s);
    pair_products(block, room, in.v.extent(2), key_of(in.v), row_of(from.d_o), dp);
    block.sync();
    const int r = block.rank() / row_lanes;
    for (int i = 0; i < row_each; ++i) {
      const int j = block.rank() % row_lanes + i * row_lanes;
      typename Inputs::weights w{0, 0};
      if ((room.columns[j] >> r & 1) != 0) {
        const P bound = bind_pattern(from.spec.pattern, seq.scope(head(j)));
        const A score = s[i] * static_cast<A>(from.spec.scale);
        w = from.weigh(modify_score(bound, score, seq.start + query(j), at.k0 + r), dp[i],
                       seq.query + query(j), head(j));
      }
      room.weights[r * many + j] = w.ds;
      room.more_weights[r * many + j] = w.p;
    }
    block.sync();
    return true;
  }
};

}  // namespace deepseek::cuda_attention
