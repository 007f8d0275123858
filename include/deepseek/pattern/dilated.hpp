// SPDX-License-Identifier: Apache-2.0
// Patterns of every Nth key: query q sees key k where q - k is a multiple of a step.
//   dilated<W, D>   q - k = n D with |n| <= W          2 W + 1 keys, W D positions to either side
//   strided<S>      q - k = n S                        every S-th key of the sequence
// Both directions; both<causal, ...> looks back only. Memory and sums follow the keys kept, time
// the tiles: each of 96 queries by 64 keys, so a step below about 160 leaves no tile of the range
// out. Source: Beltagy et al. 2020 (Longformer), section 3.1; Child et al. 2019, section 4.2.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

// |q - k| <= Most, in steps of Step.
template <index_t Step, index_t Most>
struct comb {
  static constexpr index_t unlimited = std::numeric_limits<index_t>::max();

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    const index_t apart = q - k;
    return apart % Step == 0 && apart <= Most && apart >= -Most;
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    const index_t lowest = t.q0 - (t.k1 - 1), highest = (t.q1 - 1) - t.k0;
    const index_t low = lowest > -Most ? lowest : -Most, high = highest < Most ? highest : Most;
    if (floor_divide(high, Step) * Step < low) return coverage::none;
    const bool each = Step == 1 || lowest == highest;
    return each && low == lowest && high == highest ? coverage::full : coverage::partial;
  }
  // Runs of the keys that some query meets; all keys where there are as many queries as a step.
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t q0, index_t q1, index_t from) {
    const index_t least = first_key(q0), last = Most == unlimited ? no_key : q1 + Most;
    index_t first = least > from ? least : from;
    if (first >= last) return {};
    const index_t queries = q1 - q0;
    if (queries >= Step) return {first, last};
    index_t place = first - q0 - floor_divide(first - q0, Step) * Step;
    if (place >= queries) {
      first += Step - place;
      place = 0;
      if (first >= last) return {};
    }
    const index_t end = first + queries - place;
    return {first, end < last ? end : last};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    const index_t least = first_key(q), first = least > k0 ? least : k0;
    std::uint64_t bits = 0;
    for (index_t k = q - floor_divide(q - first, Step) * Step; k < k0 + 64; k += Step) {
      if (k - q > Most) break;
      bits |= std::uint64_t{1} << (k - k0);
    }
    return bits;
  }

 private:
  DEEPSEEK_HOST_DEVICE static constexpr index_t first_key(index_t q) {
    return Most == unlimited || q < Most ? 0 : q - Most;
  }
};

template <index_t W, index_t D>
struct dilated : comb<D, W * D> {
  static_assert(W >= 0, "deepseek::dilated: the window is negative; write dilated<W, D>, W >= 0");
  static_assert(D >= 1, "deepseek::dilated: the step is not positive; write dilated<W, D>, D >= 1");
};

template <index_t S>
struct strided : comb<S, std::numeric_limits<index_t>::max()> {
  static_assert(S >= 1, "deepseek::strided: the step is not positive; write strided<S>, S >= 1");
};

}  // namespace deepseek
