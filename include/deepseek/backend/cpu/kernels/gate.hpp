// SPDX-License-Identifier: Apache-2.0
// One token of gate on the cpu: scores, s + bias and groups in registers; the choice keeps its K
// best in a short sorted list. The K-th best of the lanes' largest is a floor: K experts reach it,
// so most others cost one comparison. See ops/gate.hpp.
#pragma once

#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/rows/gate.hpp"

namespace deepseek::kernels {

inline constexpr index_t longest_gate_list = 16;

template <class T>
void gate_scores(T* s, index_t n, gate_score how) {
  using simd::pack;
  if (how == gate_score::softmax) return softmax_row(s, s, n);
  simd::along_row<T>(
      n, [&](index_t e, index_t rest) __attribute__((always_inline)) {
        const auto z = pack<T>::load_up_to(s + e, rest);
        const auto score = how == gate_score::sigmoid ? simd::sigmoid(z) : simd::sqrt_softplus(z);
        score.store_up_to(s + e, rest);
      });
}

// choice = s + bias, NaN as -inf.
template <class T>
void biased_scores(const T* s, const T* bias, T* choice, index_t n) {
  using simd::pack;
  const auto lowest = pack<T>::broadcast(-std::numeric_limits<T>::infinity());
  simd::along_row<T>(
      n, [&](index_t e, index_t rest) __attribute__((always_inline)) {
        auto c = pack<T>::load_up_to(s + e, rest);
        if (bias != nullptr) c = c + pack<T>::load_up_to(bias + e, rest);
        max(c, lowest).store_up_to(choice + e, rest);
      });
}

// The largest, or the sum of the largest two, of n numbers that are not NaN.
template <class T>
T group_value_of(const T* c, index_t n, group_score how) {
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  auto first = pack<T>::broadcast(lowest), second = first;
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = simd::first_lanes(pack<T>::load_up_to(c + i, rest), rest, lowest);
        second = max(second, min(first, v));
        first = max(first, v);
      });
  const T best = reduce_max(first);
  if (how == group_score::best || n < 2) return best;
  // The runner-up is the best of the lanes that lost, unless two lanes hold the best.
  const auto top = pack<T>::broadcast(best), one = pack<T>::broadcast(T(1));
  const T winners = reduce_sum(select_less(first, top, pack<T>::zero(), one));
  return best + (winners > T(1) ? best : reduce_max(select_less(first, top, first, second)));
}

// The K best of choice, larger first, then the lower expert; experts of struck groups are skipped.
template <class T>
class gate_list {
 public:
  explicit gate_list(index_t k) : k_(k) {}
  void offer(T c, index_t e) {
    if (kept_ == k_ && !(c > value_[k_ - 1])) return;
    index_t at = kept_ < k_ ? kept_++ : k_ - 1;
    for (; at > 0 && c > value_[at - 1]; --at) {
      value_[at] = value_[at - 1];
      id_[at] = id_[at - 1];
    }
    value_[at] = c;
    id_[at] = static_cast<std::int32_t>(e);
  }
  std::int32_t operator[](index_t i) const { return id_[i]; }

 private:
  index_t k_, kept_ = 0;
  T value_[longest_gate_list] = {};
  std::int32_t id_[longest_gate_list] = {};
};

template <class T>
simd::pack<T> lane_maxima(const T* c, index_t n, simd::pack<T> largest) {
  using simd::pack;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  simd::along_row<T>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        largest = max(largest, simd::first_lanes(pack<T>::load_up_to(c + i, rest), rest, lowest));
      });
  return largest;
}

// The k-th largest lane; -inf where there are fewer lanes.
template <class T>
T kth_lane(simd::pack<T> lanes, index_t k) {
  constexpr index_t width = simd::pack<T>::width;
  if (k > width) return -std::numeric_limits<T>::infinity();
  T value[width];
  lanes.store(value);
  gate_list<T> best(k);
  for (index_t i = 0; i < width; ++i) best.offer(value[i], i);
  return value[best[k - 1]];
}

// memory: E numbers for s + bias, then one for each group. ids: at most longest_gate_list.
template <class T, class I>
void gate_choices(const T* s, const T* bias, const I& ids, const view<T, host, dyn>& memory,
                  const gate_rule& rule) {
  const index_t experts = memory.extent(0) - rule.groups, size = experts / rule.groups;
  T* const choice = memory.data();
  const view<T, host, dyn> values(choice + experts, {rule.groups});
  biased_scores(s, bias, choice, experts);
  const bool limited = rule.top_groups < rule.groups;
  if (limited) {
    for (index_t g = 0; g < rule.groups; ++g) {
      const T v = group_value_of(choice + g * size, size, rule.group);
      values(g) = v == v ? v : -std::numeric_limits<T>::infinity();
    }
    strike_groups(values, rule);
  }
  const auto in_groups = [&](const auto& f) {  // f(first expert) of each group that is in
    for (index_t g = 0; g < rule.groups; ++g) {
      if (!limited || values(g) == values(g)) f(g * size);
    }
  };
  auto largest = simd::pack<T>::broadcast(-std::numeric_limits<T>::infinity());
  in_groups([&](index_t first) { largest = lane_maxima(choice + first, size, largest); });
  const T floor = kth_lane(largest, ids.extent(0));
  gate_list<T> best(ids.extent(0));
  in_groups([&](index_t first) {
    for (index_t e = first; e < first + size; ++e) {
      if (choice[e] >= floor) best.offer(choice[e], e);
    }
  });
  for (index_t k = 0; k < ids.extent(0); ++k) ids(k) = best[k];
}

template <class P, class Bias, class Out>
void gate_token(const P& scores, const Bias& bias, const Out& out, index_t t,
                const view<typename P::value_type, host, dyn>& memory, const gate_rule& rule) {
  using T = typename P::value_type;
  T* const s = &scores(t, 0);
  const T* selecting = nullptr;
  if constexpr (!std::is_same_v<Bias, none>) selecting = bias.data();
  const auto ids = slice(out.ids, t);
  gate_scores(s, scores.extent(1), rule.score);
  if (rule.choice == gate_choice::by_score && ids.extent(0) > 0) {
    gate_choices(s, selecting, ids, memory, rule);
  } else if (rule.choice == gate_choice::all) {
    gate_all_row(ids);
  }
  gate_weights_row(slice(scores, t), slice(out.weights, t), ids, rule);
}

}  // namespace deepseek::kernels
