// SPDX-License-Identifier: Apache-2.0
// The order of top_k in integers: larger numbers first, equal ones by lower place, NaN last. The
// key of a number is an unsigned integer that compares as the numbers do; NaN has key 1, below all;
// 0 is no number's. Keys and places together never tie, so a choice does not depend on the order in
// which threads look.
#pragma once

#include "deepseek/backend/cuda/block.hpp"
#include "deepseek/core/dtype.hpp"

namespace deepseek {

template <class T>
using key_type = std::conditional_t<sizeof(accumulate_t<T>) == 8, std::uint64_t, std::uint32_t>;

template <class T>
DEEPSEEK_HOST_DEVICE constexpr key_type<T> order_key(T number) {
  using A = accumulate_t<T>;
  using Key = key_type<T>;
  A x = static_cast<A>(number);
  if (x != x) return 1;
  if (x == A(0)) x = A(0);  // -0 is 0
  constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);
  const Key bits = detail::bits_as<Key>(x);
  return (bits & sign) != 0 ? ~bits : bits | sign;
}

template <class Key>
struct ranked_key {
  Key key = 0;
  std::uint32_t place = ~std::uint32_t{0};
};

// Whether a goes before b.
struct by_rank {
  template <class Key>
  DEEPSEEK_HOST_DEVICE constexpr bool operator()(const ranked_key<Key>& a,
                                                 const ranked_key<Key>& b) const {
    return a.key > b.key || (a.key == b.key && a.place < b.place);
  }
};
struct by_place {
  template <class Key>
  DEEPSEEK_HOST_DEVICE constexpr bool operator()(const ranked_key<Key>& a,
                                                 const ranked_key<Key>& b) const {
    return a.place < b.place;
  }
};

// What a lane of a warp holds of a row: elements lane, lane + 32, ...; N of them in registers, or
// (N == 0) any number in memory that the warp shares.
template <class V, int N>
struct lane_values {
  V values[N];
  DEEPSEEK_HOST_DEVICE lane_values(V*, int) {}
  DEEPSEEK_HOST_DEVICE V& operator[](int j) { return values[j]; }
  DEEPSEEK_HOST_DEVICE static constexpr int count(index_t) { return N; }
};
template <class V>
struct lane_values<V, 0> {
  V* first;
  DEEPSEEK_HOST_DEVICE lane_values(V* memory, int lane) : first(memory + lane) {}
  DEEPSEEK_HOST_DEVICE V& operator[](int j) { return first[j * warp_size]; }
  DEEPSEEK_HOST_DEVICE static constexpr int count(index_t n) {
    return static_cast<int>((n + warp_size - 1) / warp_size);
  }
};

// The first of the row's elements in rank, which leaves it (its key becomes 0).
template <class Block, class Key, int N>
DEEPSEEK_HOST_DEVICE ranked_key<Key> take_first(const Block& block, lane_values<Key, N>& own,
                                                int count) {
  ranked_key<Key> best;
  for (int j = 0; j < count; ++j) {
    if (own[j] > best.key) {
      best.key = own[j];
      best.place = static_cast<std::uint32_t>(j * warp_size + block.lane());
    }
  }
  for (int bit = warp_size / 2; bit > 0; bit /= 2) {
    ranked_key<Key> other;
    other.key = block.shuffle_xor(best.key, bit);
    other.place = block.shuffle_xor(best.place, bit);
    if (by_rank{}(other, best)) best = other;
  }
  for (int j = 0; j < count; ++j) {
    if (best.place == static_cast<std::uint32_t>(j * warp_size + block.lane())) own[j] = 0;
  }
  return best;
}

}  // namespace deepseek
