// SPDX-License-Identifier: Apache-2.0
// The online softmax of one row of a tile of scores, and the exponentials of attention: 2^(s - m) =
// 2^n 2^f with n = round(s - m), f exact and |f| <= 1/2, where scores are in base two (score.hpp),
// else e^(s - m). Relative error of a weight below 2^-22 (float, where it stays one); a score of
// -inf gives 0, a NaN stays NaN. Every lane depends on its own input only. Source: Milakov and
// Gimelshein 2018.
#pragma once

#include <span>
#include <utility>

#include "deepseek/backend/cpu/attention/score.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/backend/cpu/vector_math.hpp"

namespace deepseek::cpu_attention {

// 2^f - 1 = f (c + f p(f)), from the series of e^r by r = f ln 2.
template <class T>
struct power_series {
  static constexpr double ln2 = 0.69314718055994530942;
  static constexpr std::size_t size = std::size(simd::exp_constants<T>::series);
  T c[size + 1];

  constexpr power_series() : c{} {
    double power = ln2;
    c[size] = static_cast<T>(ln2);
    for (std::size_t i = size; i-- > 0;) {
      power *= ln2;
      c[i] = static_cast<T>(power * static_cast<double>(simd::exp_constants<T>::series[i]));
    }
  }
};

// What becomes of a weight. Where it is rounded to bf16 (2^-9) a quartic is enough: minimax for
// (2^f - 1) / f on |f| <= 1/2, relative error of 2^f below 2^-18.
enum class weights_are { kept, narrowed };
inline constexpr float quartic[] = {0.009582853F, 0.055906426F, 0.24024099F, 0.6931242F};

// 2^x for x <= 0; a little more is allowed.
template <weights_are W, class T>
DEEPSEEK_INLINE simd::pack<T> exp2(simd::pack<T> x) {
  using p = simd::pack<T>;
  static constexpr power_series<T> series;
  x = max(p::broadcast(std::is_same_v<T, float> ? T(-152) : T(-1080)), x);
  const p n = round(x), f = x - n;
  const auto times = [&](const auto& c) __attribute__((always_inline)) {
    return scale_by_power(fma(simd::polynomial(f, c), f, p::broadcast(1)), n);
  };
  if constexpr (W == weights_are::narrowed) {
    return times(quartic);
  } else {
    return times(series.c);
  }
}

template <base B, weights_are W, class T>
DEEPSEEK_INLINE simd::pack<T> power(simd::pack<T> x) {
  if constexpr (B == base::e) {
    return simd::exp(x);
  } else {
    return exp2<W>(x);
  }
}

// One row's shift and running sum. `top` was its largest score when it was last raised, and no
// later score is larger by more than `top_slack`.
template <class T>
struct online_row {
  T *top, *sums;  // one shift; as many partial sums as a register has lanes

  void begin() const {
    *top = -std::numeric_limits<T>::infinity();
    simd::pack<T>::zero().store(sums);
  }
  T sum() const { return reduce_sum(simd::pack<T>::load(sums)); }
};
// A row is brought to a new maximum only where weights would pass 2^8 (or e^8): seldom after its
// first tile. The result is the same but for rounding, for o and the sum grow alike.
inline constexpr int top_slack = 8;

// o and sum of a row brought to a new maximum.
template <base B, class T>
void raise_top(const online_row<T>& row, T top, std::span<T> o) {
  using pack = simd::pack<T>;
  const T last = std::exchange(*row.top, top);
  if (last == -std::numeric_limits<T>::infinity()) return;  // o is 0
  const pack scale = power<B, weights_are::kept>(pack::broadcast(last - top));
  for (std::size_t c = 0; c < o.size(); c += pack::width) {
    (pack::load(o.data() + c) * scale).store(o.data() + c);
  }
  (pack::load(row.sums) * scale).store(row.sums);
}

// At a row's end: o over the sum, 0 where it saw nothing; and m + log l.
template <class T>
void divide_by_sum(online_row<T> row, std::span<T> o) {
  const T sum = row.sum();
  const bool empty = sum == T(0);
  const T share = empty ? T(0) : T(1) / sum;
  for (T& x : o) x = empty ? T(0) : x * share;
}
template <base B, class T>
T log_sum(online_row<T> row) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const T sum = row.sum(), top = *row.top == -infinity ? T(0) : *row.top;
  return sum == T(0) ? -infinity : out_of_base<B>(top) + std::log(sum);
}

// Turns the 64 scores of a row into weights, 0 where its bit is not set: store(i, p) gets register
// i. Scales o to the new maximum. The tile's registers are written out, so that rows do not wait
// for each other.
enum class rows_see { all_keys, some_keys };
// Scores as they are, or to be multiplied by one factor first.
template <class T>
struct plain_scores {
  const T* s;
  DEEPSEEK_INLINE simd::pack<T> at(int j) const { return simd::pack<T>::load(s + j); }
};
template <class T>
struct unscaled_scores {
  const T* s;
  T scale;
  DEEPSEEK_INLINE simd::pack<T> at(int j) const {
    return simd::pack<T>::load(s + j) * simd::pack<T>::broadcast(scale);
  }
};
template <base B, weights_are W, rows_see See, class T, class Scores, class Store>
DEEPSEEK_INLINE void online_softmax(const Scores& s, std::uint64_t bits, const online_row<T>& row,
                                    std::span<T> o, const Store& store) {
  using pack = simd::pack<T>;
  constexpr int w = static_cast<int>(lanes<T>), registers = static_cast<int>(key_tile) / w;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto score = [&](auto i) __attribute__((always_inline)) {
    const pack x = s.at(i * w);
    if constexpr (See == rows_see::all_keys) return x;
    return select_bits(bits >> (i * w), x, pack::broadcast(-infinity));
  };
  pack tops = pack::broadcast(-infinity);
  simd::unrolled<registers>([&](auto i)
                                __attribute__((always_inline)) { tops = max(tops, score(i)); });
  if (simd::some_above(tops, pack::broadcast(*row.top + T(top_slack)))) {
    raise_top<B>(row, reduce_max(tops), o);
  }
  const pack shifts = pack::broadcast(*row.top == -infinity ? T(0) : *row.top);
  pack sums = pack::load(row.sums);
  simd::unrolled<registers>([&](auto i) __attribute__((always_inline)) {
    const pack p = power<B, W>(score(i) - shifts);
    store(i, p);
    sums = sums + p;
  });
  sums.store(row.sums);
}

// The same for a row of any kind.
template <base B, weights_are W, class T, class Scores, class Store>
DEEPSEEK_INLINE void weigh_row(const Scores& s, std::uint64_t bits, const online_row<T>& row,
                               std::span<T> o, const Store& store) {
  if (bits == 0) {
    simd::unrolled<static_cast<int>(key_tile / lanes<T>)>([&](
        auto i) __attribute__((always_inline)) { store(i, simd::pack<T>::zero()); });
  } else if (bits == ~std::uint64_t{0}) {
    online_softmax<B, W, rows_see::all_keys>(s, bits, row, o, store);
  } else {
    online_softmax<B, W, rows_see::some_keys>(s, bits, row, o, store);
  }
}

}  // namespace deepseek::cpu_attention
