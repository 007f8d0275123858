// SPDX-License-Identifier: Apache-2.0
// lightning_indexer and its backward on the device. Scores of bf16 and f16, heads of 64 or 128,
// rows aligned to 16 bytes: tensor cores (indexer_tensor.hpp). Any types, strides and widths: 16
// queries by 64 keys a block, heads one after the other (the products of attention/pairs.hpp). A
// block finds the sequences of its rows itself and writes -inf, without products, where the pattern
// shows nothing. Sums over d, then heads, in order. Backward: dq and dw by a block for 16 queries
// of one head, dk by a block for 16 keys, no atomics, plain multiply-adds. See
// ops/lightning_indexer.hpp. Unproven on hardware: rates.
#pragma once

#include "deepseek/backend/cuda/attention/pairs.hpp"
#include "deepseek/backend/cuda/indexer_tensor.hpp"
#include "deepseek/backend/cuda/room.hpp"

namespace deepseek {

namespace cuda_indexer {

// Scores of rows first .. first + scores.extent(0) - 1 of the batch.
template <class In, class Scores, class Spec>
struct score_pairs {
  using T = typename Scores::value_type;
  using A = accumulate_t<T>;
  static constexpr int threads = pair_threads;
  In in;
  Scores scores;
  Spec spec;
  index_t first;

  DEEPSEEK_HOST_DEVICE index_t across() const { return (scores.extent(1) + many - 1) / many; }
  index_t blocks() const { return blocks_of(scores.extent(0), few) * across(); }
  static std::size_t shared_bytes() { return sizeof(pair_room<A>); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t at = block.index() / across() * few, k0 = block.index() % across() * many;
    const index_t left = scores.extent(0) - at, count = left < few ? left : few;
    each_sequence(spec, spec.query_offsets, in.q.extent(0), in.k.extent(0), first + at, count,
                  [&](const auto& seq, index_t row, index_t n) {
                    part(block, seq, row, static_cast<int>(n), k0);
                  });
  }

 private:
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void part(const Block& block, const Seq& seq, index_t row, int n,
                                 index_t k0) const {
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared());
    const int r = block.rank() / row_lanes, lane = block.rank() % row_lanes;
    const auto pattern = bind_pattern(spec.pattern, seq.scope(0));
    const index_t q0 = seq.start + row - seq.query;
    const index_t k1 = k0 + many < seq.keys ? k0 + many : seq.keys;
    A sums[row_each] = {};
    std::uint64_t bits = 0;
    if (k1 > k0 && pattern.cover({q0, q0 + n, k0, k1}) != coverage::none) {
      if (r < n) bits = seen_keys(pattern, q0 + r, k0, seq.keys);
      multiply(block, room, seq, row, n, k0, sums);
    }
    for (int i = 0; i < row_each && r < n; ++i) {
      const int j = lane + i * row_lanes;
      if (k0 + j >= scores.extent(1)) continue;
      constexpr A hidden = -math::infinity<A>;
      const A score = (bits >> j & 1) != 0 ? sums[i] * static_cast<A>(spec.scale) : hidden;
      scores(row - first + r, k0 + j) = static_cast<T>(score);
    }
  }
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void multiply(const Block& block, pair_room<A>& room, const Seq& seq,
                                     index_t row, int n, index_t k0, A (&sums)[row_each]) const {
    const int r = block.rank() / row_lanes;
    for (index_t h = 0; h < in.q.extent(1); ++h) {
      A dots[row_each];
      pair_products(
          block, room, in.q.extent(2),
          [&](int i, index_t c) { return i < n ? static_cast<A>(in.q(row + i, h, c)) : A(0); },
          [&](int j, index_t c) {
            return k0 + j < seq.keys ? static_cast<A>(in.k(seq.key + k0 + j, c)) : A(0);
          },
          dots);
      const A w = r < n ? static_cast<A>(in.w(row + r, h)) : A(0);
      for (int i = 0; i < row_each; ++i) sums[i] += w * relu(dots[i]);
    }
  }
};

// The derivative of the loss by r = q . k at a visible pair.
template <class A, class In, class DS, class Spec>
struct slopes {
  In in;
  DS dscores;
  Spec spec;
  A scale;
  DEEPSEEK_HOST_DEVICE A given(index_t query, index_t key) const {
    return static_cast<A>(dscores(query, key)) * scale;
  }
  DEEPSEEK_HOST_DEVICE A of_dot(index_t query, index_t h, index_t key, A r) const {
    return r > A(0) ? given(query, key) * static_cast<A>(in.w(query, h)) : A(0);
  }
};

template <class In, class DS, class G, class Spec>
struct query_slopes {
  using A = accumulate_t<typename decltype(G::dq)::value_type>;
  static constexpr int threads = pair_threads;
  slopes<A, In, DS, Spec> at;
  G g;
  index_t first, count;  // of the blocks of the whole launch
  block_room sums;       // [16, d]

  index_t blocks() const { return count; }
  std::size_t shared_bytes() const { return sums.shared_bytes() + sizeof(pair_room<A>); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const In& in = at.in;
    const index_t heads = in.q.extent(1), h = (first + block.index()) % heads;
    const index_t row0 = (first + block.index()) / heads * few;
    const index_t left = in.q.extent(0) - row0;
    each_sequence(at.spec, at.spec.query_offsets, in.q.extent(0), in.k.extent(0), row0,
                  left < few ? left : few, [&](const auto& seq, index_t row, index_t n) {
                    part(block, seq, row, static_cast<int>(n), h);
                  });
  }

 private:
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void part(const Block& block, const Seq& seq, index_t row, int n,
                                 index_t h) const {
    const In& in = at.in;
    const index_t width = in.q.extent(2);
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared() + sums.shared_bytes());
    A* const dq = reinterpret_cast<A*>(sums.of(block));
    for_own_columns(block, width, [&](int r, index_t c) { dq[r * width + c] = A(0); });
    const auto pattern = bind_pattern(at.spec.pattern, seq.scope(0));
    const index_t q0 = seq.start + row - seq.query;
    A dw = 0;
    for (index_t k0 = 0; k0 < seq.keys; k0 += many) {
      const index_t k1 = k0 + many < seq.keys ? k0 + many : seq.keys;
      if (pattern.cover({q0, q0 + n, k0, k1}) == coverage::none) continue;
      dw += weigh(block, room, seq, row, n, k0, h, pattern);
      add_columns(
          block, room, room.weights, width,
          [&](int j, index_t c) { return static_cast<A>(in.k(seq.key + k0 + j, c)); }, dq);
    }
    dw = combine_row(block, dw, plus{});
    using W = typename decltype(g.dw)::value_type;
    using Q = typename decltype(g.dq)::value_type;
    const int r = block.rank() / row_lanes;
    if (block.rank() % row_lanes == 0 && r < n) g.dw(row + r, h) = static_cast<W>(dw);
    for_own_columns(block, width, [&](int i, index_t c) {
      if (i < n) g.dq(row + i, h, c) = static_cast<Q>(dq[i * width + c]);
    });
    block.sync();
  }
  // Leaves dr in room.weights; gives this thread's part of dw.
  template <class Block, class Seq, class P>
  DEEPSEEK_HOST_DEVICE A weigh(const Block& block, pair_room<A>& room, const Seq& seq, index_t row,
                               int n, index_t k0, index_t h, const P& pattern) const {
    const In& in = at.in;
    const int r = block.rank() / row_lanes, lane = block.rank() % row_lanes;
    A dots[row_each];
    pair_products(
        block, room, in.q.extent(2),
        [&](int i, index_t c) { return i < n ? static_cast<A>(in.q(row + i, h, c)) : A(0); },
        [&](int j, index_t c) {
          return k0 + j < seq.keys ? static_cast<A>(in.k(seq.key + k0 + j, c)) : A(0);
        },
        dots);
    const index_t q0 = seq.start + row - seq.query;
    const std::uint64_t bits = r < n ? seen_keys(pattern, q0 + r, k0, seq.keys) : 0;
    if (lane == 0) room.bits[r] = bits;
    A dw = 0;
    for (int i = 0; i < row_each; ++i) {
      const int j = lane + i * row_lanes;
      const bool seen = (bits >> j & 1) != 0;
      if (seen) dw += at.given(row + r, k0 + j) * relu(dots[i]);
      room.weights[r * many + j] = seen ? at.of_dot(row + r, h, k0 + j, dots[i]) : A(0);
    }
    block.sync();
    turn_bits(block, room);
    block.sync();
    return dw;
  }
};

template <class In, class DS, class G, class Spec>
struct key_slopes {
  using A = accumulate_t<typename decltype(G::dq)::value_type>;
  static constexpr int threads = pair_threads;
  slopes<A, In, DS, Spec> at;
  G g;
  index_t first, count;
  block_room sums;  // [16, d]

  index_t blocks() const { return count; }
  std::size_t shared_bytes() const { return sums.shared_bytes() + sizeof(pair_room<A>); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row0 = (first + block.index()) * few, left = at.in.k.extent(0) - row0;
    each_sequence(at.spec, at.spec.key_offsets, at.in.q.extent(0), at.in.k.extent(0), row0,
                  left < few ? left : few, [&](const auto& seq, index_t row, index_t n) {
                    part(block, seq, row - seq.key, static_cast<int>(n));
                  });
  }

 private:
  // n keys from row `key` on, the first of them key k0 of its sequence; m queries from row `query`.
  struct pairs {
    index_t key, query, k0;
    int n, m;
  };

  // Keys k0 .. k0 + n - 1 of the sequence.
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void part(const Block& block, const Seq& seq, index_t k0, int n) const {
    const In& in = at.in;
    const index_t width = in.q.extent(2);
    auto& room = *reinterpret_cast<pair_room<A>*>(block.shared() + sums.shared_bytes());
    A* const dk = reinterpret_cast<A*>(sums.of(block));
    for_own_columns(block, width, [&](int r, index_t c) { dk[r * width + c] = A(0); });
    const auto pattern = bind_pattern(at.spec.pattern, seq.scope(0));
    for (index_t i0 = 0; i0 < seq.queries; i0 += many) {
      const index_t i1 = i0 + many < seq.queries ? i0 + many : seq.queries;
      if (pattern.cover({seq.start + i0, seq.start + i1, k0, k0 + n}) == coverage::none) continue;
      block.sync();
      for (int j = block.rank(); j < many; j += block.size()) {
        room.columns[j] = i0 + j < i1 ? seen_by(pattern, seq.start + i0 + j, k0, n) : 0;
      }
      const pairs of{seq.key + k0, seq.query + i0, k0, n, static_cast<int>(i1 - i0)};
      for (index_t h = 0; h < in.q.extent(1); ++h) {
        weigh(block, room, of, h);
        add_columns(
            block, room, room.weights, width,
            [&](int j, index_t c) { return static_cast<A>(in.q(of.query + j, h, c)); }, dk);
      }
    }
    using K = typename decltype(g.dk)::value_type;
    for_own_columns(block, width, [&](int i, index_t c) {
      if (i < n) g.dk(seq.key + k0 + i, c) = static_cast<K>(dk[i * width + c]);
    });
    block.sync();
  }
  template <class P>
  DEEPSEEK_HOST_DEVICE static std::uint32_t seen_by(const P& pattern, index_t q, index_t k0,
                                                    int n) {
    std::uint32_t bits = 0;
    for (int r = 0; r < n; ++r) bits |= pattern.visible(q, k0 + r) ? 1U << r : 0U;
    return bits;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void weigh(const Block& block, pair_room<A>& room, const pairs& of,
                                  index_t h) const {
    const In& in = at.in;
    const int r = block.rank() / row_lanes, lane = block.rank() % row_lanes;
    A dots[row_each];
    pair_products(
        block, room, in.q.extent(2),
        [&](int i, index_t c) { return i < of.n ? static_cast<A>(in.k(of.key + i, c)) : A(0); },
        [&](int j, index_t c) {
          return j < of.m ? static_cast<A>(in.q(of.query + j, h, c)) : A(0);
        },
        dots);
    A* const own = room.weights + r * many + lane;  // laid down first: fewer registers
    for (int i = 0; i < row_each; ++i) own[i * row_lanes] = dots[i];
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
    for (int j = 0; j < many; j += row_lanes) {
      const bool seen = (room.columns[lane + j] >> r & 1U) != 0;
      own[j] = seen ? at.of_dot(of.query + lane + j, h, of.k0 + r, own[j]) : A(0);
    }
    block.sync();
  }
};

}  // namespace cuda_indexer

// Scores of rows first .. first + scores.extent(0) - 1 of the batch, also for indexer_top_k.
template <DeviceBackend B, class In, class Scores, class Spec>
void indexer_scores(const B& b, const In& in, const Scores& scores, const Spec& spec,
                    index_t first) {
  if (cuda_indexer::run_score_tiles(b, in, scores, spec, first)) return;
  b.launch(cuda_indexer::score_pairs<In, Scores, Spec>{in, scores, spec, first});
}

template <DeviceBackend B, class In, class Scores, class Spec>
void lightning_indexer_impl(const B& b, const In& in, const Scores& scores, const Spec& spec) {
  indexer_scores(b, in, scores, spec, 0);
}

template <DeviceBackend B, class In, class DS, class G, class Spec>
void lightning_indexer_backward_impl(const B& b, const In& in, const DS& dscores, const G& g,
                                     const Spec& spec) {
  using by_query = cuda_indexer::query_slopes<In, DS, G, Spec>;
  using by_key = cuda_indexer::key_slopes<In, DS, G, Spec>;
  using A = typename by_query::A;
  const cuda_indexer::slopes<A, In, DS, Spec> at{in, dscores, spec, static_cast<A>(spec.scale)};
  const auto bytes = static_cast<std::size_t>(cuda_indexer::few * in.q.extent(2)) * sizeof(A);
  run_with_room(b, blocks_of(in.q.extent(0), cuda_indexer::few) * in.q.extent(1), bytes,
                [&](index_t first, index_t count, const block_room& room) {
                  b.launch(by_query{at, g, first, count, room});
                });
  run_with_room(b, blocks_of(in.k.extent(0), cuda_indexer::few), bytes,
                [&](index_t first, index_t count, const block_room& room) {
                  b.launch(by_key{at, g, first, count, room});
                });
}

}  // namespace deepseek
