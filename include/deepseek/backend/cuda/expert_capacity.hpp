// SPDX-License-Identifier: Apache-2.0
// expert_capacity on the device: a plan of the assignments in order of position (all first choices,
// then all second ones), so that an expert's are side by side; a block for each expert keeps the
// first `capacity` in rank (selection.hpp); one warp counts, and finds the others a place where
// they are rerouted, one after the other as the rule says (slow by its nature). The number sent is
// what the contract returns: this op waits for the device. See ops/expert_capacity.hpp.
#pragma once

#include "deepseek/backend/cuda/expert_plan.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/selection.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/expert_capacity.hpp"

namespace deepseek {

namespace cuda_capacity {

// A score as a key; NaN counts as -inf.
template <class T>
DEEPSEEK_HOST_DEVICE key_type<T> score_key(T s) {
  using A = accumulate_t<T>;
  constexpr A lowest = -math::infinity<A>;
  const A x = static_cast<A>(s);
  return order_key(x == x ? x : lowest);
}

// source holds assignments as k T + t.
template <class P, class I, class Sent, class Offsets, class Source>
struct keep_first {
  using Key = key_type<typename P::value_type>;
  static constexpr int threads = 256;
  P scores;
  I ids;
  Sent sent;
  Offsets offsets;
  Source source;
  capacity_rule rule;
  fault_place faults;

  index_t blocks() const { return scores.extent(1); }
  static std::size_t shared_bytes() { return sizeof(digit_room); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (faults.found()) return;
    const index_t e = block.index(), first = offsets(e), n = offsets(e + 1) - first;
    const index_t capacity = rule.capacity, tokens = ids.extent(0);
    const auto key_at = [&](index_t i) { return priority(source(first + i), e); };
    rank_limit<Key> limit;
    if (capacity > 0 && rule.order != drop_order::by_position) {
      limit = select_first<Key>(block, n, capacity, key_at,
                                *reinterpret_cast<digit_room*>(block.shared()));
    }
    for (index_t i = block.rank(); i < n; i += threads) {
      bool fits = i < capacity;
      if (capacity > 0 && rule.order != drop_order::by_position) {
        fits = limit.takes(key_at(i), static_cast<std::uint32_t>(i));
      }
      const index_t a = source(first + i);
      sent(a % tokens, a / tokens) = static_cast<typename Sent::value_type>(fits ? e : -1);
    }
  }
  DEEPSEEK_HOST_DEVICE Key priority(index_t a, index_t e) const {
    const index_t t = a % ids.extent(0), k = a / ids.extent(0);
    if (rule.order == drop_order::by_score) return score_key(scores(t, e));
    const auto i = static_cast<std::uint64_t>(t * ids.extent(1) + k);
    return random_word(routing_stream(rule.draw), i);
  }
};

// One warp: the number kept, then those that are rerouted.
template <class P, class I, class Sent, class Offsets>
struct count_and_reroute {
  using Key = key_type<typename P::value_type>;
  static constexpr int threads = warp_size;
  P scores;
  I ids;
  Sent sent;
  Offsets offsets;
  capacity_rule rule;
  index_t* room;   // [experts]
  index_t* total;  // [1]
  fault_place faults;

  static index_t blocks() { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (faults.found()) return;
    index_t kept = 0;
    for (index_t e = block.lane(); e < scores.extent(1); e += warp_size) {
      const index_t n = offsets(e + 1) - offsets(e), fit = n < rule.capacity ? n : rule.capacity;
      room[e] = rule.capacity - fit;
      kept += fit;
    }
    kept = block.combine_warp(kept, plus{});
    block.sync_warp();
    if (rule.then == overflow::rerouted) kept += reroute(block);
    if (block.lane() == 0) *total = kept;
  }

 private:
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t reroute(const Block& block) const {
    const index_t tokens = ids.extent(0), n = ids.size();
    index_t found = 0;
    for (index_t a0 = 0; a0 < n; a0 += warp_size) {
      const index_t a = a0 + block.lane();
      const std::uint32_t lost = block.ballot(a < n && sent(a % tokens, a / tokens) < 0);
      for (int j = 0; j < warp_size; ++j) {
        if ((lost >> j & 1U) == 0) continue;
        const index_t t = (a0 + j) % tokens, k = (a0 + j) / tokens;
        const ranked_key<Key> best = next_expert(block, t);
        if (best.key == 0) continue;
        if (block.lane() == 0) {
          sent(t, k) = static_cast<typename Sent::value_type>(best.place);
          --room[best.place];
        }
        block.sync_warp();
        ++found;
      }
    }
    return found;
  }
  // The best expert with room that token t neither chose nor got already.
  template <class Block>
  DEEPSEEK_HOST_DEVICE ranked_key<Key> next_expert(const Block& block, index_t t) const {
    ranked_key<Key> best;
    for (index_t e = block.lane(); e < scores.extent(1); e += warp_size) {
      bool met = room[e] <= 0;
      for (index_t k = 0; k < ids.extent(1) && !met; ++k) met = ids(t, k) == e || sent(t, k) == e;
      const ranked_key<Key> own{score_key(scores(t, e)), static_cast<std::uint32_t>(e)};
      if (!met && by_rank{}(own, best)) best = own;
    }
    for (int bit = warp_size / 2; bit > 0; bit /= 2) {
      ranked_key<Key> other;
      other.key = block.shuffle_xor(best.key, bit);
      other.place = block.shuffle_xor(best.place, bit);
      if (by_rank{}(other, best)) best = other;
    }
    return best;
  }
};

}  // namespace cuda_capacity

template <DeviceBackend B, class P, class I, class Sent>
index_t expert_capacity_impl(const B& b, const capacity_inputs<P, I>& in, const Sent& sent,
                             const capacity_rule& rule) {
  using S = typename B::space;
  using list = view<std::int32_t, S, dyn>;
  const index_t experts = in.scores.extent(1), choices = in.ids.extent(1),
                tokens = in.ids.extent(0);
  require_indices(b, in.ids, experts, "expert_capacity: ids");
  auto& memory = b.workspace();
  const scope freed(memory);
  const list offsets = memory.template make<std::int32_t, dyn>(experts + 1);
  const list source = memory.template make<std::int32_t, dyn>(in.ids.size());
  const view<std::int32_t, S, dyn, dyn> slot =
      memory.template make<std::int32_t, dyn, dyn>(choices, tokens);
  index_t* const room = memory.template make<index_t, dyn>(experts + 1).data();
  using plan = expert_plan_views<list, list, view<std::int32_t, S, dyn, dyn>>;
  expert_plan_impl(b, transposed(in.ids), experts, plan{offsets, source, slot});
  b.launch(cuda_capacity::keep_first<P, I, Sent, list, list>{in.scores, in.ids, sent, offsets,
                                                             source, rule, b.faults()});
  b.launch(cuda_capacity::count_and_reroute<P, I, Sent, list>{
      in.scores, in.ids, sent, offsets, rule, room, room + experts, b.faults()});
  return b.read(room + experts);
}

}  // namespace deepseek
