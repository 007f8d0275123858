// SPDX-License-Identifier: Apache-2.0
// Patterns along the diagonal: query q sees key k where Least <= q - k <= Most.
//   causal      q - k >= 0                   itself and all before
//   local<W>    |q - k| <= W                 W keys on either side: 2 W + 1
//   sliding<W>  0 <= q - k < W               W keys, itself among them
//   everyone    always                       cross attention, encoders
// Cost of a query: the keys it sees. Source: Child et al. 2019; Beltagy et al. 2020, section 3.1.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t Least, index_t Most>
struct band {
  static constexpr index_t unlimited = std::numeric_limits<index_t>::max();
  static constexpr reach sees = Least >= 0 ? reach::past : reach::everywhere;

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    return q - k >= Least && q - k <= Most;
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    const index_t lowest = t.q0 - (t.k1 - 1), highest = (t.q1 - 1) - t.k0;
    if (highest < Least || lowest > Most) return coverage::none;
    return lowest >= Least && highest <= Most ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t q0, index_t q1, index_t from) {
    const index_t first = first_key(q0), last = q1 - Least;
    const index_t start = first > from ? first : from;
    return start < last ? key_span{start, last} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    return span_bits(first_key(q), q - Least + 1, k0);
  }

 private:
  DEEPSEEK_HOST_DEVICE static constexpr index_t first_key(index_t q) {
    return Most == unlimited || q < Most ? 0 : q - Most;
  }
};

struct causal : band<0, std::numeric_limits<index_t>::max()> {};

template <index_t W>
struct local : band<-W, W> {
  static_assert(W >= 0, "deepseek::local: the window is negative; write local<W> with W >= 0");
};

template <index_t W>
struct sliding : band<0, W - 1> {
  static_assert(W >= 1,
                "deepseek::sliding: a window of W keys counts the query's own; write W >= 1");
};

struct everyone {
  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t, index_t) { return true; }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile&) { return coverage::full; }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t, index_t, index_t from) {
    return {from, no_key};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t, index_t) {
    return ~std::uint64_t{0};
  }
};

}  // namespace deepseek
