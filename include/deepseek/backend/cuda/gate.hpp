// SPDX-License-Identifier: Apache-2.0
// gate and its backward on the device: a warp for each token, which reads its logits once: scores,
// bias, groups, choice and weights in one kernel, in registers for up to 256 experts, else in
// memory of the warp. See ops/gate.hpp. A token's bits do not depend on the batch. Unproven on
// hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/ranks.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/room.hpp"
#include "deepseek/backend/rows/gate.hpp"

namespace deepseek {

namespace cuda_gate {

// The type in which s + bias is compared.
template <class S, class Bias>
struct choice_of {
  using type = std::common_type_t<accumulate_t<typename S::value_type>,
                                  accumulate_t<typename Bias::value_type>>;
};
template <class S>
struct choice_of<S, none> {
  using type = accumulate_t<typename S::value_type>;
};

// The scores of one token, rounded to the type in which they stand.
template <class T, class Block, class Lanes>
DEEPSEEK_HOST_DEVICE void score(const Block& block, Lanes& own, index_t experts, gate_score how) {
  using A = accumulate_t<T>;
  const warp_team team(block);
  const int count = Lanes::count(experts);
  const auto exists = [&](int j) { return j * warp_size + block.lane() < experts; };
  if (how != gate_score::softmax) {
    for (int j = 0; j < count; ++j) {
      const A z = own[j];
      const A s = how == gate_score::sigmoid ? math::sigmoid(z) : std::sqrt(math::softplus(z));
      own[j] = static_cast<A>(static_cast<T>(s));
    }
    return;
  }
  constexpr A lowest = -math::infinity<A>;
  A top = lowest, sum = 0;
  for (int j = 0; j < count; ++j) {
    if (exists(j)) top = larger{}(own[j], top);
  }
  top = team.max(top);
  for (int j = 0; j < count; ++j) {
    own[j] = exists(j) ? std::exp(own[j] - top) : A(0);
    sum += own[j];
  }
  sum = team.sum(sum);
  for (int j = 0; j < count; ++j) own[j] = static_cast<A>(static_cast<T>(own[j] / sum));
}

// The two largest of a group over the warp: what it counts.
template <class Block, class Lanes, class C>
DEEPSEEK_HOST_DEVICE C group_value(const Block& block, Lanes& choice, index_t experts, index_t g,
                                   const gate_rule& rule, C lowest) {
  const index_t size = experts / rule.groups, first = g * size;
  C best = lowest, second = lowest;
  const auto meet = [&](C b, C s) {  // two sorted pairs become one
    const C lower = b > best ? best : b;
    best = b > best ? b : best;
    second = s > second ? s : second;
    second = lower > second ? lower : second;
  };
  const int count = Lanes::count(experts);
  for (int j = 0; j < count; ++j) {  // all: an array in registers has no index but constants
    const index_t e = j * warp_size + block.lane();
    if (e >= first && e < first + size) meet(choice[j], lowest);
  }
  for (int bit = warp_size / 2; bit > 0; bit /= 2) {
    const C b = block.shuffle_xor(best, bit), s = block.shuffle_xor(second, bit);
    meet(b, s);
  }
  return rule.group == group_score::best || size < 2 ? best : best + second;
}

// Experts of groups that are out get NaN, which goes last. values: [groups], of the warp.
template <class Block, class Lanes, class C>
DEEPSEEK_HOST_DEVICE void mask_groups(const Block& block, Lanes& choice, C* values, index_t experts,
                                      const gate_rule& rule) {
  constexpr C lowest = -math::infinity<C>;
  const C out = static_cast<C>(__builtin_nanf(""));
  const index_t size = experts / rule.groups;
  for (index_t g = 0; g < rule.groups; ++g) {
    const C value = group_value(block, choice, experts, g, rule, lowest);
    if (block.lane() == 0) values[g] = value == value ? value : lowest;
  }
  block.sync_warp();
  const int count = Lanes::count(experts);
  for (int j = 0; j < count; ++j) {
    const index_t e = j * warp_size + block.lane(), g = e / size;
    if (e >= experts) continue;
    index_t ahead = 0;  // groups before this one
    for (index_t h = 0; h < rule.groups; ++h) {
      ahead += values[h] > values[g] || (values[h] == values[g] && h < g) ? 1 : 0;
    }
    if (ahead >= rule.top_groups) choice[j] = out;
  }
}

// The weights of given ids; scores and ids of the token have been written.
template <class Block, class S, class W, class I>
DEEPSEEK_HOST_DEVICE void weigh(const Block& block, const S& s, const W& weights, const I& ids,
                                const gate_rule& rule) {
  using T = typename W::value_type;
  using A = accumulate_t<T>;
  const index_t active = ids.extent(0);
  A sum = block.lane() == 0 ? static_cast<A>(gate_sum_floor) : A(0);
  for (index_t k = block.lane(); k < active; k += warp_size) {
    sum += ids(k) < 0 ? A(0) : static_cast<A>(s(ids(k)));
  }
  sum = rule.norm == renormalize::no ? A(1) : block.combine_warp(sum, plus{});
  for (index_t k = block.lane(); k < active; k += warp_size) {
    const A share = ids(k) < 0 ? A(0) : static_cast<A>(s(ids(k))) / sum;
    weights(k) = static_cast<T>(static_cast<A>(rule.scale) * share);
  }
}

template <int N, class P, class Bias, class W, class I>
struct choose {
  using T = typename P::value_type;
  using A = accumulate_t<T>;
  using C = typename choice_of<P, Bias>::type;
  using Key = key_type<C>;
  static constexpr int threads = N > 0 ? 128 : 32;
  P scores;
  Bias bias;
  gate_outputs<W, I> out;
  gate_rule rule;
  fault_place faults;
  index_t first = 0, count = 0;  // tokens
  block_room room = {};          // of a warp: groups; without registers scores, choices, keys

  static std::size_t warp_bytes(index_t experts, index_t groups) {
    const auto held = static_cast<std::size_t>(lane_values<A, 0>::count(experts) * warp_size);
    const std::size_t bytes = static_cast<std::size_t>(groups) * sizeof(C) +
                              (N > 0 ? 0 : held * (sizeof(A) + sizeof(C) + sizeof(Key)));
    return (bytes + 7) / 8 * 8;
  }
  index_t blocks() const { return blocks_of(count, threads / warp_size); }
  std::size_t shared_bytes() const { return room.shared_bytes(); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * (threads / warp_size) + block.warp();
    if (i >= count || faults.found()) return;
    const index_t t = first + i, experts = scores.extent(1);
    const std::size_t each = room.bytes / (threads / warp_size);
    std::byte* const memory = room.of(block) + static_cast<std::size_t>(block.warp()) * each;
    const auto held = static_cast<index_t>(lane_values<A, 0>::count(experts) * warp_size);
    C* const choices = reinterpret_cast<C*>(memory);
    Key* const keys = reinterpret_cast<Key*>(choices + held);
    A* const values = reinterpret_cast<A*>(keys + held);
    C* const groups = N > 0 ? choices : reinterpret_cast<C*>(values + held);
    lane_values<A, N> s(values, block.lane());
    read_scores(block, s, t);
    if (rule.choice == gate_choice::by_score && out.ids.extent(1) > 0) {
      lane_values<C, N> choice(choices, block.lane());
      lane_values<Key, N> key(keys, block.lane());
      choose_ids(block, s, choice, key, groups, t);
    } else if (rule.choice == gate_choice::all) {
      for (index_t k = block.lane(); k < out.ids.extent(1); k += warp_size) {
        out.ids(t, k) = static_cast<typename I::value_type>(k);
      }
    }
    block.sync_warp();
    weigh(block, slice(scores, t), slice(out.weights, t), slice(out.ids, t), rule);
  }

 private:
  template <class Block>
  DEEPSEEK_HOST_DEVICE void read_scores(const Block& block, lane_values<A, N>& s, index_t t) const {
    const index_t experts = scores.extent(1);
    const int n = lane_values<A, N>::count(experts);
    for (int j = 0; j < n; ++j) {
      const index_t e = j * warp_size + block.lane();
      s[j] = e < experts ? static_cast<A>(scores(t, e)) : A(0);
    }
    score<T>(block, s, experts, rule.score);
    for (int j = 0; j < n; ++j) {
      const index_t e = j * warp_size + block.lane();
      if (e < experts) scores(t, e) = static_cast<T>(s[j]);
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void choose_ids(const Block& block, lane_values<A, N>& s,
                                       lane_values<C, N>& choice, lane_values<Key, N>& key,
                                       C* groups, index_t t) const {
    const index_t experts = scores.extent(1);
    const int n = lane_values<A, N>::count(experts);
    constexpr C lowest = -math::infinity<C>;
    for (int j = 0; j < n; ++j) {
      const index_t e = j * warp_size + block.lane();
      C c = static_cast<C>(s[j]);
      if constexpr (!std::is_same_v<Bias, none>) {
        if (e < experts) c += static_cast<C>(bias(e));
      }
      choice[j] = c == c ? c : lowest;
    }
    if (rule.top_groups < rule.groups) mask_groups(block, choice, groups, experts, rule);
    for (int j = 0; j < n; ++j) {
      key[j] = j * warp_size + block.lane() < experts ? order_key(choice[j]) : 0;
    }
    for (index_t k = 0; k < out.ids.extent(1); ++k) {
      const auto best = take_first(block, key, n);
      if (block.lane() == 0) {
        out.ids(t, k) = static_cast<typename I::value_type>(best.place);
      }
    }
  }
};

template <class P, class W, class I>
struct weights_only {
  P scores;
  gate_outputs<W, I> out;
  gate_rule rule;
  fault_place faults;
  static constexpr int threads = 128;
  index_t blocks() const { return blocks_of(scores.extent(0), threads / warp_size); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t t = block.index() * (threads / warp_size) + block.warp();
    if (t >= scores.extent(0) || faults.found()) return;
    weigh(block, slice(scores, t), slice(out.weights, t), slice(out.ids, t), rule);
  }
};

// dscores of one token: what came from elsewhere and what comes through the weights, times the
// score's derivative.
template <class In, class DW, class DS>
struct backward {
  using T = typename DS::value_type;
  using A = accumulate_t<T>;
  In in;
  DW dweights;
  DS dscores;
  gate_rule rule;
  fault_place faults;
  static constexpr int threads = 128;
  index_t blocks() const { return blocks_of(dscores.extent(0), threads / warp_size); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t t = block.index() * (threads / warp_size) + block.warp();
    if (t >= dscores.extent(0) || faults.found()) return;
    const index_t experts = dscores.extent(1), active = in.ids.extent(1);
    A sum = A(1), inner = A(0);
    if (rule.norm == renormalize::yes) sums_of(block, t, sum, inner);
    A dot = 0;
    for (index_t e = block.lane(); e < experts; e += warp_size) {
      A d = static_cast<A>(dscores(t, e));
      for (index_t k = 0; k < active; ++k) {
        if (in.ids(t, k) != e) continue;
        const A through = static_cast<A>(rule.scale) * static_cast<A>(dweights(t, k)) - inner;
        d = static_cast<A>(static_cast<T>(d + through / sum));
      }
      dscores(t, e) = static_cast<T>(d);
      dot += d * static_cast<A>(in.scores(t, e));
    }
    dot = block.combine_warp(dot, plus{});
    for (index_t e = block.lane(); e < experts; e += warp_size) {  // this lane's own again
      const A s = static_cast<A>(in.scores(t, e)), d = static_cast<A>(dscores(t, e));
      const A by_logit = rule.score == gate_score::softmax
                             ? s * (d - dot)
                             : gate_score_derivative(s, rule.score) * d;
      dscores(t, e) = static_cast<T>(by_logit);
    }
  }

 private:
  template <class Block>
  DEEPSEEK_HOST_DEVICE void sums_of(const Block& block, index_t t, A& sum, A& inner) const {
    sum = block.lane() == 0 ? static_cast<A>(gate_sum_floor) : A(0);
    for (index_t k = block.lane(); k < in.ids.extent(1); k += warp_size) {
      const index_t e = in.ids(t, k);
      if (e < 0) continue;
      sum += static_cast<A>(in.scores(t, e));
      inner += static_cast<A>(dweights(t, k)) * static_cast<A>(in.weights(t, k));
    }
    sum = block.combine_warp(sum, plus{});
    inner = block.combine_warp(inner, plus{});
  }
};

template <int N, class B, class P, class Bias, class W, class I>
void run(const B& b, const P& scores, const Bias& bias, const gate_outputs<W, I>& out,
         const gate_rule& rule) {
  using kernel = choose<N, P, Bias, W, I>;
  constexpr index_t warps = kernel::threads / warp_size;
  const index_t tokens = scores.extent(0);
  const std::size_t bytes = kernel::warp_bytes(scores.extent(1), rule.groups);
  run_with_room(b, blocks_of(tokens, warps), bytes * static_cast<std::size_t>(warps),
                [&](index_t first, index_t blocks, const block_room& room) {
                  const index_t t = first * warps, end = (first + blocks) * warps;
                  const index_t count = (end < tokens ? end : tokens) - t;
                  b.launch(kernel{scores, bias, out, rule, b.faults(), t, count, room});
                });
}

}  // namespace cuda_gate

template <DeviceBackend B, class P, class Bias, class W, class I>
void gate_impl(const B& b, const P& scores, const Bias& bias, const gate_outputs<W, I>& out,
               const gate_rule& rule) {
  if (rule.choice == gate_choice::given) {
    require_indices(b, out.ids, scores.extent(1), "gate: ids");
  }
  if (scores.extent(1) <= 256) {
    cuda_gate::run<8>(b, scores, bias, out, rule);
  } else {
    cuda_gate::run<0>(b, scores, bias, out, rule);
  }
}

template <DeviceBackend B, class P, class W, class I>
void gate_weights_impl(const B& b, const P& scores, const gate_outputs<W, I>& out,
                       const gate_rule& rule) {
  require_indices(b, out.ids, scores.extent(1), "gate_weights: ids", -1);
  b.launch(cuda_gate::weights_only<P, W, I>{scores, out, rule, b.faults()});
}

template <DeviceBackend B, class P, class W, class I, class DW, class DS>
void gate_backward_impl(const B& b, const gate_saved<P, W, I>& in, const DW& dweights,
                        const DS& dscores, const gate_rule& rule) {
  require_indices(b, in.ids, in.scores.extent(1), "gate_backward: ids", -1);
  b.launch(
      cuda_gate::backward<gate_saved<P, W, I>, DW, DS>{in, dweights, dscores, rule, b.faults()});
}

}  // namespace deepseek
