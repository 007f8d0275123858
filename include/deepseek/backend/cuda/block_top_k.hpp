// SPDX-License-Identifier: Apache-2.0
// block_top_k on the device: a block of 128 threads for each query and key-value head: 128 entries
// at a time, a thread each, then the blocks of keys take their entries' weights in order; what was
// chosen by radix selection is sorted by position. See ops/block_top_k.hpp. Unproven on hardware:
// the rates; queries that share keys read them apart.
#pragma once

#include "deepseek/backend/cuda/lightning_indexer.hpp"
#include "deepseek/backend/cuda/selection.hpp"
#include "deepseek/ops/block_top_k.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_block_top_k {

template <class In, class Ids, class Spec>
struct choose {
  using A = accumulate_t<typename decltype(In::q)::value_type>;
  using Key = key_type<A>;
  static constexpr int threads = 128;
  In in;
  Ids ids;
  Spec spec;
  block_rule rule;
  index_t first, count;  // of the tasks: query, then key-value head
  index_t room_for;      // blocks that there is room for
  block_room room;       // the answer, then the importances
  struct tile_room {
    digit_room digits;
    A weights[threads];  // of the entries of a tile
  };

  index_t blocks() const { return count; }
  std::size_t shared_bytes() const { return room.shared_bytes() + sizeof(tile_room); }
  DEEPSEEK_HOST_DEVICE static std::size_t answer_bytes(index_t k) {
    return static_cast<std::size_t>(power_of_two(k)) * sizeof(ranked_key<Key>);
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t kv_heads = in.k.extent(1), task = first + block.index();
    const index_t row = task / kv_heads, kv = task % kv_heads;
    const auto& offsets = spec.query_offsets;
    const index_t s = offsets.extent(0) > 0 ? cuda_indexer::sequence_holding(offsets, row) : 0;
    const auto seq = cuda_attention::sequence_at(spec, s, in.q.extent(0), in.k.extent(0));
    const index_t position = seq.start + row - seq.query;
    const index_t own = position / (rule.ratio * rule.windows) + 1;
    const index_t reached = own < room_for ? own : room_for;
    auto& tile = *reinterpret_cast<tile_room*>(block.shared() + room.shared_bytes());
    auto* const items = reinterpret_cast<ranked_key<Key>*>(room.of(block));
    A* const importance = reinterpret_cast<A*>(room.of(block) + answer_bytes(ids.extent(2)));
    for (index_t b = block.rank(); b < reached; b += threads) importance[b] = 0;
    const index_t group = in.q.extent(1) / kv_heads;
    for (index_t h = kv * group; h < (kv + 1) * group; ++h) {
      add_head(block, seq, row, position, h, tile.weights, importance, reached);
    }
    block.sync();
    write(block, slice(slice(ids, row), kv), importance, reached, items, tile.digits);
  }

 private:
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void add_head(const Block& block, const Seq& seq, index_t row,
                                     index_t position, index_t h, A* weights, A* importance,
                                     index_t reached) const {
    const A lse = static_cast<A>(in.lse(row, h));
    if (lse == -math::infinity<A>) return;
    const auto pattern = bind_pattern(spec.pattern, seq.scope(h));
    const index_t kv = h / (in.q.extent(1) / in.k.extent(1));
    for (index_t e0 = 0; e0 < seq.keys; e0 += threads) {
      const index_t e1 = e0 + threads < seq.keys ? e0 + threads : seq.keys;
      if (pattern.cover({position, position + 1, e0, e1}) == coverage::none) continue;
      const index_t e = e0 + block.rank();
      A p = 0;
      if (e < e1 && pattern.visible(position, e)) {
        A dot = 0;
        for (index_t d = 0; d < in.q.extent(2); ++d) {
          dot += static_cast<A>(in.q(row, h, d)) * static_cast<A>(in.k(seq.key + e, kv, d));
        }
        p = std::exp(dot * static_cast<A>(spec.scale) - lse);
      }
      block.sync();
      weights[block.rank()] = p;
      block.sync();
      add_tile(block, e0, e1, weights, importance, reached);
    }
  }
  // A block takes what its entries weigh, in order: entry e counts for window e and, with overlap,
  // for window e - 1.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_tile(const Block& block, index_t e0, index_t e1, const A* weights,
                                     A* importance, index_t reached) const {
    const index_t last = (e1 - 1) / rule.windows, low = e0 > 0 ? (e0 - 1) / rule.windows : 0;
    for (index_t b = low + block.rank(); b <= last && b < reached; b += threads) {
      const index_t begin = b * rule.windows, end = begin + rule.windows;
      A sum = importance[b];
      for (index_t e = begin > e0 ? begin : e0; e <= end && e < e1; ++e) {
        if (e < end) sum += weights[e - e0];
        if (rule.entries == overlap::present && e > begin) sum += weights[e - e0];
      }
      importance[b] = sum;
    }
  }
  // Ascending, -1 after the last.
  template <class Block, class Row>
  DEEPSEEK_HOST_DEVICE void write(const Block& block, const Row& to, const A* importance,
                                  index_t reached, ranked_key<Key>* items,
                                  digit_room& digits) const {
    const index_t k = to.extent(0) < reached ? to.extent(0) : reached;
    constexpr A most = math::infinity<A>;
    const auto key_at = [&](index_t b) {
      const bool forced = b < rule.initial || b >= reached - rule.recent;
      return order_key(forced ? most : importance[b]);
    };
    gather_first<Key>(block, reached, k, key_at, digits, items);
    sort_items(block, items, power_of_two(k), by_place{});
    for (index_t i = block.rank(); i < to.extent(0); i += threads) {
      to(i) = i < k ? static_cast<std::int32_t>(items[i].place) : -1;
    }
  }
};

}  // namespace cuda_block_top_k

template <DeviceBackend B, class In, class Ids, class Spec>
void block_top_k_impl(const B& b, const In& in, const Ids& ids, const Spec& spec,
                      const block_rule& rule) {
  using kernel = cuda_block_top_k::choose<In, Ids, Spec>;
  using A = typename kernel::A;
  const index_t most = most_blocks(spec, in.q.extent(0), in.k.extent(0), rule);
  const std::size_t bytes =
      kernel::answer_bytes(ids.extent(2)) + static_cast<std::size_t>(most) * sizeof(A);
  run_with_room(b, in.q.extent(0) * in.k.extent(1), bytes,
                [&](index_t first, index_t count, const block_room& room) {
                  b.launch(kernel{in, ids, spec, rule, first, count, most, room});
                });
}

}  // namespace deepseek
