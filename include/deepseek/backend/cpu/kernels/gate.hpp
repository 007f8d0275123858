// SPDX-License-Identifier: Apache-2.0
// Tokens of gate on the cpu: scores, s + bias and groups in registers. The K-th largest of 16
// strands' maxima is a floor that at least K experts reach, and few more; those are ranked by
// counting, without a branch. Where many are equal a short sorted list takes over. See
// ops/gate.hpp.
#pragma once

#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/rows/gate.hpp"

#include <algorithm>
#include <bit>
#include <utility>

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
  DEEPSEEK_INLINE bool add(const T* choice, index_t first, index_t n, T floor) {
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
  // None, which come last, after the others: well before they are read as whole registers.
  DEEPSEEK_INLINE void close() {
    for (int i = 0; i < std::max(8, simd::pack<T>::width); i += simd::pack<T>::width) {
      simd::pack<T>::broadcast(strands<T>::lowest).store(value_ + count_ + i);
    }
    for (int i = 0; i < 8; ++i) id_[count_ + i] = 0;
  }
  // The best in order. Each goes where the number of those before it says: larger ones, and equal
  // ones with a lower id. Always eight at a time.
  template <class I>
  void best(const I& ids) {
    std::int32_t ordered[most + 8];
    for (int i = 0; i < count_; i += 8) {
      simd::unrolled<8>([&](auto k) __attribute__((always_inline)) {
        ordered[before(i + k)] = id_[i + k];
      });
    }
    for (index_t k = 0; k < ids.extent(0); ++k) ids(k) = ordered[k];
  }

 private:
  // How many stand before candidate i.
  DEEPSEEK_INLINE int before(int i) const {
    const auto own = simd::pack<T>::broadcast(value_[i]);
    std::uint32_t at_least = 0, at_most = 0;
    for (int j = 0; j < count_; j += simd::pack<T>::width) {
      const auto others = simd::pack<T>::load(value_ + j);
      at_least |= lanes_at_least(others, own) << j;
      at_most |= lanes_at_least(own, others) << j;
    }
    const std::uint32_t lower = (1U << i) - 1;
    return std::popcount((at_least & ~at_most) | (at_least & lower));
  }

  int count_ = 0;
  T value_[most + std::max<index_t>(simd::pack<T>::width, 8)];
  std::int32_t id_[most + 8];
};

// f(first expert, how many) of what is in: all, or the groups whose value is a number.
template <class T, class F>
DEEPSEEK_INLINE void in_groups(const view<T, host, dyn>& values, index_t experts,
                               const gate_rule& rule, const F& f) {
  if (rule.top_groups == rule.groups) return f(index_t{0}, experts);
  const index_t size = experts / rule.groups;
  for (index_t g = 0; g < rule.groups; ++g) {
    if (values(g) == values(g)) f(g * size, size);
  }
}

// What the choice of a token works on: E numbers s + bias and one for each group.
template <class T>
struct gate_numbers {
  T* choice;
  view<T, host, dyn> groups;

  gate_numbers(T* memory, index_t scores, const gate_rule& rule)
      : choice(memory), groups(memory + scores, {rule.groups}) {}
};

// Fills the numbers of a token and returns a floor for its k best.
template <class T>
T gate_floor(const T* s, const T* bias, const gate_numbers<T>& to, index_t experts, index_t k,
             const gate_rule& rule) {
  biased_scores(s, bias, to.choice, experts);
  if (rule.top_groups < rule.groups) {
    const index_t size = experts / rule.groups;
    for (index_t g = 0; g < rule.groups; ++g) {
      const T v = group_value_of(to.choice + g * size, size, rule.group);
      to.groups(g) = v == v ? v : -std::numeric_limits<T>::infinity();
    }
    strike_groups(to.groups, rule);
  }
  strands<T> largest;
  in_groups(
      to.groups, experts, rule, [&](index_t first, index_t n) __attribute__((always_inline)) {
        largest.add(to.choice + first, n);
      });
  return largest.kth(k);
}

// All that reach the floor, where they are few.
template <class T>
bool gate_candidates(const gate_numbers<T>& from, index_t experts, T floor,
                     candidates_of_gate<T>& few, const gate_rule& rule) {
  bool fits = true;
  in_groups(
      from.groups, experts, rule, [&](index_t first, index_t n) __attribute__((always_inline)) {
        fits = fits && few.add(from.choice, first, n, floor);
      });
  few.close();
  return fits;
}

// Where they are many. ids: at most longest_gate_list.
template <class T, class I>
void gate_ids(const gate_numbers<T>& from, index_t experts, const I& ids, const gate_rule& rule) {
  gate_list<T> best(ids.extent(0));
  in_groups(from.groups, experts, rule, [&](index_t first, index_t n) {
    for (index_t e = first; e < first + n; ++e) best.offer(from.choice[e], e);
  });
  for (index_t k = 0; k < ids.extent(0); ++k) ids(k) = best[k];
}

inline constexpr index_t gate_together = 16;  // tokens

// Numbers of one token's memory, in whole lines.
inline index_t gate_room(index_t experts, const gate_rule& rule) {
  return (experts + rule.groups + 15) / 16 * 16;
}

// Tokens first .. last - 1, at most gate_together, step by step: one token alone is a chain of
// waits, which others fill. memory: gate_room numbers for each token.
template <class P, class Bias, class Out>
void gate_tokens(const P& scores, const Bias& bias, const Out& out,
                 std::pair<index_t, index_t> tokens, typename P::value_type* memory,
                 const gate_rule& rule) {
  using T = typename P::value_type;
  const index_t experts = scores.extent(1), k = out.ids.extent(1), room = gate_room(experts, rule);
  const auto each = [first = tokens.first, last = tokens.second](const auto& f) {
    for (index_t t = first; t < last; ++t) f(t, t - first);
  };
  const T* selecting = nullptr;
  if constexpr (!std::is_same_v<Bias, none>) selecting = bias.data();
  const auto numbers = [&](index_t i) { return gate_numbers<T>(memory + i * room, experts, rule); };
  each([&](index_t t, index_t) { gate_scores(&scores(t, 0), experts, rule.score); });
  if (rule.choice == gate_choice::by_score && k > 0) {
    T floor[gate_together];
    each([&](index_t t, index_t i) {
      floor[i] = gate_floor(&scores(t, 0), selecting, numbers(i), experts, k, rule);
    });
    candidates_of_gate<T> few[gate_together];
    bool fits[gate_together];
    each([&](index_t, index_t i) {
      fits[i] = gate_candidates(numbers(i), experts, floor[i], few[i], rule);
    });
    each([&](index_t t, index_t i) {
      const auto ids = slice(out.ids, t);
      fits[i] ? few[i].best(ids) : gate_ids(numbers(i), experts, ids, rule);
    });
  } else if (rule.choice == gate_choice::all) {
    each([&](index_t t, index_t) { gate_all_row(slice(out.ids, t)); });
  }
  each([&](index_t t, index_t) {
    gate_weights_row(slice(scores, t), slice(out.weights, t), slice(out.ids, t), rule);
  });
}

}  // namespace deepseek::kernels
