// SPDX-License-Identifier: Apache-2.0
// Score modifiers (pattern/score.hpp) on one row of a tile of scores. Every score is changed by
// itself, from its positions, so the bits depend neither on the tile nor on the other rows. Known
// modifiers go through registers, others score by score.
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

// f(s, s', slope) for each score, one by one.
template <class T, class F>
void change_each(const score_row<T>& row, F change) {
  for (index_t j = row.keys.low; j < row.keys.high; ++j) {
    const modified_score<T> now = change(row.s[j], row.k0 + j);
    row.s[j] = now.score;
    if (row.slope != nullptr) row.slope[j] *= now.slope;
  }
}

template <class T>
void add_bias(const linear_bias& m, const score_row<T>& row) {
  using pack = simd::pack<T>;
  constexpr index_t w = lanes<T>;
  T lane[w];
  for (index_t i = 0; i < w; ++i) lane[i] = static_cast<T>(i);
  const pack falling = pack::broadcast(-static_cast<T>(m.slope)), steps = pack::load(lane);
  for (index_t j = row.keys.low / w * w; j < row.keys.high; j += w) {
    const pack apart = pack::broadcast(static_cast<T>(row.q - row.k0 - j)) - steps;
    fma(falling, abs(apart), pack::load(row.s + j)).store(row.s + j);
  }
}

template <class T>
void cap_scores(const capped_scores& m, const score_row<T>& row) {
  using pack = simd::pack<T>;
  constexpr index_t w = lanes<T>;
  if (std::isinf(m.cap)) return;
  const pack cap = pack::broadcast(static_cast<T>(m.cap)), one = pack::broadcast(1);
  for (index_t j = row.keys.low / w * w; j < row.keys.high; j += w) {
    const pack x = pack::load(row.s + j) / cap;
    (cap * simd::tanh(x)).store(row.s + j);
    if (row.slope == nullptr) continue;
    const pack e = simd::exp(abs(x) * pack::broadcast(-2)), whole = one + e;
    const pack slope = pack::broadcast(4) * e / (whole * whole);
    (pack::load(row.slope + j) * slope).store(row.slope + j);
  }
}

template <class T, class M>
void change_row(const M& modifier, const score_row<T>& row) {
  if constexpr (std::is_base_of_v<linear_bias, M>) {
    add_bias<T>(modifier, row);
  } else if constexpr (std::is_base_of_v<capped_scores, M>) {
    cap_scores<T>(modifier, row);
  } else {
    change_each(row, [&](T s, index_t k) { return modifier.change(s, row.q, k); });
  }
}

// The pattern is bound to the row's head.
template <class T, class P>
void modify_row(const P& pattern, const score_row<T>& row) {
  change_each(row, [&](T s, index_t k) { return pattern.modify(s, row.q, k); });
}
template <class T, class P, class M>
void modify_row(const scored<P, M>& pattern, const score_row<T>& row) {
  if constexpr (modifies_scores<P>) modify_row<T>(pattern.pattern, row);
  change_row<T>(pattern.modifier, row);
}

}  // namespace deepseek::cpu_attention
