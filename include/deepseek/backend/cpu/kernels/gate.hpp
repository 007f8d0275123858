// SPDX-License-Identifier: Apache-2.0
// One token of gate on the cpu: scores, s + bias and groups in registers. The K-th largest of 16
// strands' maxima is a floor that at least K experts reach, and few more; those are ranked by
// counting, without a branch. Where many are equal a short sorted list takes over. See
// ops/gate.hpp.
#pragma once

#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/rows/gate.hpp"

#include <bit>

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

// Lane i holds what lane (i + By) mod width held.
template <int By, class T>
DEEPSEEK_INLINE simd::pack<T> rotated(simd::pack<T> x) {
  constexpr int width = simd::pack<T>::width;
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return simd::pack<T>{__builtin_shufflevector(x.v, x.v, ((I + By) % width)...)};
  }
  (std::make_integer_sequence<int, width>{});
}

// The largest numbers of 16 strands of a row: lanes of a few registers.
template <class T>
struct strands {
  static constexpr index_t width = simd::pack<T>::width;
  static constexpr int count = width < 16 ? static_cast<int>(16 / width) : 1;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();
  simd::pack<T> most[count];

  strands() {
    for (auto& m : most) m = simd::pack<T>::broadcast(lowest);
  }
  DEEPSEEK_INLINE void add(const T* c, index_t n) {
    for (index_t i = 0; i < n; i += count * width) {
      simd::unrolled<count>([&](auto k) __attribute__((always_inline)) {
        const index_t at = i + k * width;
        if (at >= n) return;
        const auto v = simd::first_lanes(simd::pack<T>::load_up_to(c + at, n - at), n - at, lowest);
        most[k] = max(most[k], v);
      });
    }
  }
  // The k-th largest of all lanes, k <= 16: the least of those that fewer than k exceed.
  DEEPSEEK_INLINE T kth(index_t k) const {
    using counts = simd::vector<simd::integer_of<T>>;
    counts above[count] = {};
    simd::unrolled<static_cast<int>(width)>([&](auto by) __attribute__((always_inline)) {
      for (const auto& m : most) {
        const auto other = rotated<by>(m);
        for (int a = 0; a < count; ++a) above[a] -= other.v > most[a].v;
      }
    });
    const counts limit = counts{} + static_cast<simd::integer_of<T>>(k);
    auto largest = simd::pack<T>::broadcast(lowest);  // of the negated numbers
    for (int a = 0; a < count; ++a) {
      const auto kept = simd::pack<T>{above[a] < limit ? (-most[a]).v : largest.v};
      largest = max(largest, kept);
    }
    return -reduce_max(largest);
  }
};

// The experts whose number reaches the floor, lower ones first.
template <class T>
class candidates_of_gate {
 public:
  static constexpr index_t most = 32;

  // False where there are more than `most`.
  bool add(const T* choice, index_t first, index_t n, T floor) {
    constexpr index_t width = simd::pack<T>::width;
    const auto least = simd::pack<T>::broadcast(floor);
    for (index_t word = 0; word < n; word += 64) {
      const index_t here = std::min<index_t>(64, n - word);
      const T* const c = choice + first + word;
      std::uint64_t reached = 0;
      for (index_t i = 0; i < here; i += width) {
        const auto v = simd::pack<T>::load_up_to(c + i, here - i);
        reached |= std::uint64_t{lanes_at_least(v, least)} << i;
      }
      if (here < 64) reached &= (std::uint64_t{1} << here) - 1;
      if (count_ + std::popcount(reached) > most) return false;
      for (; reached != 0; reached &= reached - 1) {
        const int i = std::countr_zero(reached);
        value_[count_] = c[i];
        id_[count_++] = static_cast<std::int32_t>(first + word + i);
      }
    }
    return true;
  }
  // The best in order. Each goes where the number of those before it says: larger ones, and equal
  // ones with a lower id.
  template <class I>
  void best(const I& ids) {
    constexpr int width = simd::pack<T>::width;
    simd::pack<T>::broadcast(strands<T>::lowest).store(value_ + count_);
    std::int32_t ordered[most];
    for (int i = 0; i < count_; ++i) {
      const auto own = simd::pack<T>::broadcast(value_[i]);
      std::uint32_t at_least = 0, at_most = 0;
      for (int j = 0; j < count_; j += width) {
        const auto others = simd::pack<T>::load(value_ + j);
        at_least |= lanes_at_least(others, own) << j;
        at_most |= lanes_at_least(own, others) << j;
      }
      const std::uint32_t lower = (1U << i) - 1;
      ordered[std::popcount((at_least & ~at_most) | (at_least & lower))] = id_[i];
    }
    for (index_t k = 0; k < ids.extent(0); ++k) ids(k) = ordered[k];
  }

 private:
  int count_ = 0;
  T value_[most + simd::pack<T>::width];
  std::int32_t id_[most];
};

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
  const auto in_groups = [&](const auto& f) {  // f(first expert, how many) of what is in
    if (!limited) return f(index_t{0}, experts);
    for (index_t g = 0; g < rule.groups; ++g) {
      if (values(g) == values(g)) f(g * size, size);
    }
  };
  strands<T> largest;
  in_groups([&](index_t first, index_t n) { largest.add(choice + first, n); });
  const T floor = largest.kth(ids.extent(0));
  candidates_of_gate<T> few;
  bool fits = true;
  in_groups([&](index_t first, index_t n) { fits = fits && few.add(choice, first, n, floor); });
  if (fits) return few.best(ids);
  gate_list<T> best(ids.extent(0));
  in_groups([&](index_t first, index_t n) {
    for (index_t e = first; e < first + n; ++e) best.offer(choice[e], e);
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
