// SPDX-License-Identifier: Apache-2.0
// Score modifiers: what happens to a score before the softmax, as a type that combines with any
// pattern: scored<causal, alibi<8>>, scored<scored<causal, alibi<8>>, soft_cap<50>> (the inner one
// first). A modifier is a small value type with one pure function
//   change(s, q, k) -> modified_score   s' and ds'/ds, where s = scale q . k is the score of the
//                                       query at position q and the key at position k
// Optional: bind (the head; like a pattern's), make, check. Positions are absolute: they hold with
// a start, in pages and in packed sequences. The attention ops take modifiers; the indexer and
// attention_weights, which have scores of their own, refuse them with a sentence.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <class T>
struct modified_score {
  T score, slope;  // s' and ds'/ds
};

template <class M>
concept ScoreModifier = std::copyable<M> && requires(const M& m, float f, double d, index_t p) {
  { m.change(f, p, p) } -> std::same_as<modified_score<float>>;
  { m.change(d, p, p) } -> std::same_as<modified_score<double>>;
};

template <class P, class M>
struct scored {
  static_assert(ScoreModifier<M>,
                "deepseek::scored: the second type does not change scores; write a modifier with "
                "template <class T> modified_score<T> change(T s, index_t q, index_t k) const");
  static constexpr reach sees = reach_of<P>;
  static constexpr bool alike_in_group = deepseek::alike_in_group<P>;
  static constexpr bool listed = lists_blocks<P>;
  static constexpr bool checked_by_sizes =
      deepseek::checked_by_sizes<P> && deepseek::checked_by_sizes<M>;

  P pattern{};
  M modifier{};

  constexpr scored() = default;
  DEEPSEEK_HOST_DEVICE constexpr scored(const P& p, const M& m) : pattern(p), modifier(m) {}

  static constexpr scored make(const pattern_key& key) {
    if constexpr (requires { M::make(key); }) {
      return {make_pattern<P>(key), M::make(key)};
    } else {
      return {make_pattern<P>(key), M{}};
    }
  }
  DEEPSEEK_HOST_DEVICE constexpr scored bind(const pattern_scope& scope) const {
    return {bind_pattern(pattern, scope), bind_pattern(modifier, scope)};
  }
  void check(const pattern_scope& scope) const {
    require_pattern(pattern, scope);
    require_pattern(modifier, scope);
  }

  constexpr bool by_row() const { return depends_on_row(pattern); }
  DEEPSEEK_HOST_DEVICE constexpr bool heads_alike() const { return deepseek::heads_alike(pattern); }
  DEEPSEEK_HOST_DEVICE constexpr bool visible(index_t q, index_t k) const {
    return pattern.visible(q, k);
  }
  DEEPSEEK_HOST_DEVICE constexpr coverage cover(const tile& t) const { return pattern.cover(t); }
  DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(index_t q0, index_t q1, index_t from) const {
    return deepseek::next_keys(pattern, q0, q1, from);
  }
  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(index_t q, index_t k0) const {
    return deepseek::row_bits(pattern, q, k0);
  }
  DEEPSEEK_HOST_DEVICE constexpr void rows_bits(const tile& t, std::uint64_t* out) const {
    deepseek::rows_bits(pattern, t, out);
  }
  DEEPSEEK_HOST_DEVICE constexpr bool alike(index_t a, index_t b) const {
    return see_alike(pattern, a, b);
  }
  template <class T>
  DEEPSEEK_HOST_DEVICE constexpr modified_score<T> modify(T s, index_t q, index_t k) const {
    if constexpr (modifies_scores<P>) {
      const auto inner = pattern.modify(s, q, k);
      const auto outer = modifier.change(inner.score, q, k);
      return {outer.score, inner.slope * outer.slope};
    } else {
      return modifier.change(s, q, k);
    }
  }
};

// Any pattern: without a modifier the score stays as it is.
template <class P, class T>
DEEPSEEK_HOST_DEVICE constexpr modified_score<T> modify_score(const P& pattern, T s, index_t q,
                                                              index_t k) {
  if constexpr (modifies_scores<P>) {
    return pattern.modify(s, q, k);
  } else {
    return {s, T(1)};
  }
}

}  // namespace deepseek
