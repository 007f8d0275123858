// SPDX-License-Identifier: Apache-2.0
// indexer_top_k on the device: the scores of a block of queries (some 4 million of them, at least
// 132 queries), then a block for each of these: radix selection and a sort of what was selected
// (selection.hpp). No score leaves the device, nothing waits for the host. See
// ops/indexer_top_k.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/lightning_indexer.hpp"
#include "deepseek/backend/cuda/selection.hpp"
#include "deepseek/ops/indexer_top_k.hpp"

namespace deepseek {

namespace cuda_indexer {

template <int Threads, class Scores, class Ids, class Spec>
struct select {
  using Key = key_type<typename Scores::value_type>;
  static constexpr int threads = Threads;
  Scores scores;  // of rows first ..
  Ids ids;        // of all rows
  Spec spec;
  selection_order order;
  index_t queries, keys, first, count;
  block_room room;

  index_t blocks() const { return count; }
  std::size_t shared_bytes() const { return room.shared_bytes() + sizeof(digit_room); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = first + block.index();
    index_t known = keys;
    if (spec.query_offsets.extent(0) > 0) {
      const index_t s = sequence_holding(spec.query_offsets, row);
      known = spec.key_offsets(s + 1) - spec.key_offsets(s);
    }
    auto& digits = *reinterpret_cast<digit_room*>(block.shared() + room.shared_bytes());
    auto* const items = reinterpret_cast<ranked_key<Key>*>(room.of(block));
    const auto from = slice(scores, block.index());
    const auto to = slice(ids, row);
    const index_t k = to.extent(0) < known ? to.extent(0) : known;
    if (k > 0) choose(block, from, known, k, digits, items);
    for (index_t i = block.rank(); i < to.extent(0); i += block.size()) {
      to(i) = i < k ? static_cast<std::int32_t>(items[i].place) : -1;
    }
  }

 private:
  // What has no score above -inf goes last, as place -1.
  template <class Block, class From>
  DEEPSEEK_HOST_DEVICE void choose(const Block& block, const From& from, index_t known, index_t k,
                                   digit_room& digits, ranked_key<Key>* items) const {
    using A = typename Scores::value_type;
    gather_first<Key>(
        block, known, k, [&](index_t i) { return order_key(from(i)); }, digits, items);
    constexpr A lowest = -math::infinity<A>;
    for (index_t i = block.rank(); i < k; i += block.size()) {
      if (items[i].key == order_key(lowest)) items[i] = {};
    }
    if (order == selection_order::by_position) {
      sort_items(block, items, power_of_two(k), by_place{});
    } else {
      sort_items(block, items, power_of_two(k), by_rank{});
    }
  }
};

// Rows first .. first + count - 1, whose scores have been computed.
template <int Threads, class B, class Scores, class Ids, class Spec>
void select_rows(const B& b, const Scores& scores, const Ids& ids, const Spec& spec,
                 selection_order order, index_t keys, index_t first) {
  using kernel = select<Threads, Scores, Ids, Spec>;
  using Key = typename kernel::Key;
  const index_t most = ids.extent(1) < keys ? ids.extent(1) : keys;
  const auto bytes = static_cast<std::size_t>(power_of_two(most)) * sizeof(ranked_key<Key>);
  run_with_room(b, scores.extent(0), bytes, [&](index_t at, index_t count, const block_room& room) {
    b.launch(kernel{rows(scores, at, count), ids, spec, order, ids.extent(0), keys, first + at,
                    count, room});
  });
}

}  // namespace cuda_indexer

template <DeviceBackend B, class In, class Ids, class Spec>
void indexer_top_k_impl(const B& b, const In& in, const Ids& ids, const Spec& spec,
                        selection_order order) {
  using A = accumulate_t<typename decltype(in.q)::value_type>;
  using Scores = view<A, typename B::space, dyn, dyn>;
  constexpr index_t most_scores = index_t{1} << 22;
  const index_t queries = in.q.extent(0), keys = in.k.extent(0);
  const index_t fit = most_scores / (keys > 0 ? keys : 1);
  const index_t part = fit < 132 ? 132 : fit > 4096 ? 4096 : fit;
  for (index_t first = 0; first < queries; first += part) {
    const index_t n = queries - first < part ? queries - first : part;
    const scope freed(b.workspace());
    const Scores scores = b.workspace().template make<A, dyn, dyn>(n, keys);
    if (keys > 0) indexer_scores(b, in, scores, spec, first);
    if (keys <= 4096) {
      cuda_indexer::select_rows<256>(b, scores, ids, spec, order, keys, first);
    } else {
      cuda_indexer::select_rows<1024>(b, scores, ids, spec, order, keys, first);
    }
  }
}

}  // namespace deepseek
