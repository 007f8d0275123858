// SPDX-License-Identifier: Apache-2.0
// Score modifiers (pattern/score.hpp) on one row of a tile of scores. Every score is changed by
// itself, from its positions, so the bits depend neither on the tile nor on the other rows. Known
// modifiers go through registers, others score by score. Where they allow it scores are kept times
// log2 e, so that weights are powers of two (softmax.hpp): a cap and a bias only change their unit.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"
#include "deepseek/backend/cpu/vector_math.hpp"
#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/soft_cap.hpp"

namespace deepseek::cpu_attention {

// The scores of the query at position q: s[j] with key k0 + j. slope, if not null, is multiplied
// by ds'/ds. Whole registers that hold keys.low .. keys.high - 1 may be changed.
template <class T>
struct score_row {
  T *s, *slope;
  key_range keys;
  index_t q, k0;
};

// Weights are e^s of scores in natural units, or 2^s of scores times log2 e.
enum class base { e, two };

template <class P>
inline constexpr bool keeps_base = !modifies_scores<P>;
template <class P, class M>
inline constexpr bool keeps_base<scored<P, M>> = keeps_base<P> &&
                                                 (std::is_base_of_v<linear_bias, M> ||
                                                  std::is_base_of_v<capped_scores, M>);
template <class P>
inline constexpr base base_of = keeps_base<P> ? base::two : base::e;

// From natural units to those of the scores, and back.
template <base B, class T>
constexpr T into_base(T x) {
  return B == base::e ? x : x * T(1.44269504088896340736);
}
template <base B, class T>
constexpr T out_of_base(T x) {
  return B == base::e ? x : x * T(0.69314718055994530942);
}

// f(s, s', slope) for each score, one by one.
template <class T, class F>
void change_each(const score_row<T>& row, F change) {
  for (index_t j = row.keys.low; j < row.keys.high; ++j) {
    const modified_score<T> now = change(row.s[j], row.k0 + j);
    row.s[j] = now.score;
    if (row.slope != nullptr) row.slope[j] *= now.slope;
  }
}

template <base B, class T>
void add_bias(const linear_bias& m, const score_row<T>& row) {
  using pack = simd::pack<T>;
  constexpr index_t w = lanes<T>;
  T lane[w];
  for (index_t i = 0; i < w; ++i) lane[i] = static_cast<T>(i);
  const pack falling = pack::broadcast(-into_base<B>(static_cast<T>(m.slope)));
  const pack steps = pack::load(lane);
  for (index_t j = row.keys.low / w * w; j < row.keys.high; j += w) {
    const pack apart = pack::broadcast(static_cast<T>(row.q - row.k0 - j)) - steps;
    fma(falling, abs(apart), pack::load(row.s + j)).store(row.s + j);
  }
}

// ds'/ds = 1 - tanh(x)^2, in the form that keeps its digits.
template <class T>
DEEPSEEK_INLINE simd::pack<T> slope_of_small(simd::pack<T> t) {
  return fma(-t, t, simd::pack<T>::broadcast(1));
}
template <class T>
DEEPSEEK_INLINE simd::pack<T> cap_slope(simd::pack<T> x, simd::pack<T> t) {
  using pack = simd::pack<T>;
  const pack e = simd::exp(abs(x) * pack::broadcast(-2)), whole = pack::broadcast(1) + e;
  const pack near = pack::broadcast(T(simd::tanh_near));
  return select_less(abs(x), near, slope_of_small(t), pack::broadcast(4) * e / (whole * whole));
}

// A row of floats that are all small beside the cap needs no exponential; the bits are the same.
template <class T>
bool all_small(const score_row<T>& row, T share) {
  using pack = simd::pack<T>;
  constexpr index_t w = lanes<T>;
  if (std::is_same_v<T, double>) return false;
  pack largest = pack::zero();
  for (index_t j = row.keys.low / w * w; j < row.keys.high; j += w) {
    largest = max(abs(pack::load(row.s + j) * pack::broadcast(share)), largest);
  }
  return reduce_max(largest) < T(simd::tanh_near);
}

template <base B, class T>
void cap_scores(const capped_scores& m, const score_row<T>& row) {
  using pack = simd::pack<T>;
  constexpr index_t w = lanes<T>;
  if (std::isinf(m.cap)) return;
  const T cap_size = into_base<B>(static_cast<T>(m.cap)), share = 1 / cap_size;
  const bool small = all_small(row, share);
  const pack cap = pack::broadcast(cap_size), shares = pack::broadcast(share);
  for (index_t j = row.keys.low / w * w; j < row.keys.high; j += w) {
    const pack x = pack::load(row.s + j) * shares,
               t = small ? simd::tanh_of_small(x) : simd::tanh(x);
    (cap * t).store(row.s + j);
    if (row.slope == nullptr) continue;
    const pack slope = small ? slope_of_small(t) : cap_slope(x, t);
    (pack::load(row.slope + j) * slope).store(row.slope + j);
  }
}

template <base B, class T, class M>
void change_row(const M& modifier, const score_row<T>& row) {
  if constexpr (std::is_base_of_v<linear_bias, M>) {
    add_bias<B>(modifier, row);
  } else if constexpr (std::is_base_of_v<capped_scores, M>) {
    cap_scores<B>(modifier, row);
  } else {
    change_each(row, [&](T s, index_t k) { return modifier.change(s, row.q, k); });
  }
}

// The pattern is bound to the row's head.
template <base B, class T, class P>
void modify_row(const P& pattern, const score_row<T>& row) {
  change_each(row, [&](T s, index_t k) { return pattern.modify(s, row.q, k); });
}
template <base B, class T, class P, class M>
void modify_row(const scored<P, M>& pattern, const score_row<T>& row) {
  if constexpr (modifies_scores<P>) modify_row<B>(pattern.pattern, row);
  change_row<B>(pattern.modifier, row);
}

}  // namespace deepseek::cpu_attention
