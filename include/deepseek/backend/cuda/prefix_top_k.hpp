// SPDX-License-Identifier: Apache-2.0
// prefix_top_k on the device: a block for 64 queries. It selects among the scores before the first
// of them (selection.hpp), then takes the others' scores in one by one: the chosen stay in order of
// position, the worst leaves. Cost: about n / 64 + k for a query of n keys, without waiting for
// other blocks. See ops/prefix_top_k.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/lightning_indexer.hpp"
#include "deepseek/backend/cuda/selection.hpp"
#include "deepseek/ops/prefix_top_k.hpp"

namespace deepseek {

namespace cuda_prefix {

inline constexpr index_t queries_each = 64;

struct smallest {
  template <class X>
  DEEPSEEK_HOST_DEVICE constexpr X operator()(X a, X b) const {
    return a < b ? a : b;
  }
};

// The scores of one sequence, and which of its queries.
struct part {
  index_t row, count;   // rows of ids
  index_t key, keys;    // scores of the sequence
  index_t first_query;  // position of the first of these queries
};

template <class X, class Ids, class S>
struct choose {
  using Key = key_type<typename X::value_type>;
  static constexpr int threads = 128;
  X scores;
  Ids ids;
  prefix_spec<S> spec;
  index_t first, count;  // blocks
  block_room room;

  index_t blocks() const { return count; }
  std::size_t shared_bytes() const { return room.shared_bytes() + sizeof(digit_room); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t begin = (first + block.index()) * queries_each;
    const index_t end = begin + queries_each < ids.extent(0) ? begin + queries_each : ids.extent(0);
    for (index_t row = begin; row < end;) {
      const part p = part_from(row, end);
      run(block, p);
      row += p.count;
    }
  }

 private:
  DEEPSEEK_HOST_DEVICE part part_from(index_t row, index_t end) const {
    if (spec.query_offsets.extent(0) == 0) {
      const index_t keys = scores.extent(0), least = keys - ids.extent(0);
      index_t start = spec.start;
      if (spec.start_at.extent(0) > 0) start = spec.start_at(0);
      if (spec.among == reach::past && start > least) start = least;
      return {row, end - row, 0, keys, start + row};
    }
    const index_t s = cuda_indexer::sequence_holding(spec.query_offsets, row);
    const index_t last = spec.query_offsets(s + 1), key = spec.key_offsets(s);
    return {row, (last < end ? last : end) - row, key, spec.key_offsets(s + 1) - key,
            spec.start + row - spec.query_offsets(s)};
  }
  DEEPSEEK_HOST_DEVICE Key key_at(const part& p, index_t i) const {
    return order_key(scores(p.key + i));
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void run(const Block& block, const part& p) const {
    auto& digits = *reinterpret_cast<digit_room*>(block.shared() + room.shared_bytes());
    auto* const items = reinterpret_cast<ranked_key<Key>*>(room.of(block));
    const index_t k = ids.extent(1);
    const index_t known = spec.among == reach::past ? p.first_query : p.keys;
    index_t kept = k < known ? k : known;
    block.sync();  // what stood there has been read
    if (kept > 0) {
      gather_first<Key>(
          block, known, kept, [&](index_t i) { return key_at(p, i); }, digits, items);
      sort_items(block, items, power_of_two(kept), by_place{});
    }
    for (index_t i = 0; i < p.count; ++i) {
      if (spec.among == reach::past) {
        const index_t at = p.first_query + i;
        kept = take_in(block, items, kept, {key_at(p, at), static_cast<std::uint32_t>(at)});
      }
      for (index_t j = block.rank(); j < k; j += block.size()) {
        ids(p.row + i, j) = j < kept ? static_cast<std::int32_t>(items[j].place) : -1;
      }
      block.sync();
    }
  }
  // The item behind the kept ones, in place of the worst where there are k. Equal: the earlier one
  // stays.
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t take_in(const Block& block, ranked_key<Key>* items, index_t kept,
                                       const ranked_key<Key>& next) const {
    const index_t k = ids.extent(1);
    if (kept < k) {
      if (block.rank() == 0) items[kept] = next;
      block.sync();
      return kept + 1;
    }
    if (k == 0) return 0;
    Key low = ~Key{0};
    for (index_t j = block.rank(); j < k; j += block.size()) low = smallest{}(low, items[j].key);
    low = block.combine(low, smallest{});
    if (next.key <= low) return kept;
    index_t worst = -1;
    for (index_t j = block.rank(); j < k; j += block.size())
      worst = items[j].key == low ? j : worst;
    worst = block.max(worst);
    for (index_t j0 = worst; j0 < k; j0 += block.size()) {
      const index_t j = j0 + block.rank();
      const ranked_key<Key> moved = j + 1 < k ? items[j + 1] : next;
      block.sync();
      if (j < k) items[j] = moved;
      block.sync();
    }
    return kept;
  }
};

}  // namespace cuda_prefix

template <DeviceBackend B, class X, class Ids, class S>
void prefix_top_k_impl(const B& b, const X& scores, const Ids& ids, const prefix_spec<S>& spec) {
  using kernel = cuda_prefix::choose<X, Ids, S>;
  const auto bytes = static_cast<std::size_t>(power_of_two(ids.extent(1))) *
                     sizeof(ranked_key<typename kernel::Key>);
  run_with_room(b, blocks_of(ids.extent(0), cuda_prefix::queries_each), bytes,
                [&](index_t first, index_t count, const block_room& room) {
                  b.launch(kernel{scores, ids, spec, first, count, room});
                });
}

}  // namespace deepseek
