// SPDX-License-Identifier: Apache-2.0
// The k first of n keys in rank, found by a block: a radix selection over the bits of key and place
// together, 11 at a time from the top, counts in shared memory; it ends as soon as a digit's
// elements are all wanted (three looks at a row of floats, as a rule). Since keys and places never
// tie, exactly k are taken whatever the numbers are. What is taken is gathered and sorted.
// Source: Alabi et al. 2012, "Fast k-selection algorithms for graphics processing units", 4.1.
#pragma once

#include "deepseek/backend/cuda/ranks.hpp"
#include "deepseek/backend/cuda/scans.hpp"

namespace deepseek {

inline constexpr int digit_bits = 11, digit_values = 1 << digit_bits;

// Elements whose upper bits (those of the masks) are at least those of the prefix.
template <class Key>
struct rank_limit {
  Key mask = 0, prefix = 0;
  std::uint32_t place_mask = 0, place_prefix = 0;  // of ~place

  DEEPSEEK_HOST_DEVICE bool same(Key key, std::uint32_t place) const {
    return (key & mask) == prefix && (~place & place_mask) == place_prefix;
  }
  DEEPSEEK_HOST_DEVICE bool takes(Key key, std::uint32_t place) const {
    const Key upper = key & mask;
    return upper > prefix || (upper == prefix && (~place & place_mask) >= place_prefix);
  }
};

// Digit d, counted from the top, of a number: how far down it stands, and its mask there.
template <class Number>
struct digit {
  static constexpr int bits = static_cast<int>(8 * sizeof(Number));
  static constexpr int count = (bits + digit_bits - 1) / digit_bits;
  DEEPSEEK_HOST_DEVICE static constexpr int shift(int d) {
    const int low = bits - digit_bits * (d + 1);
    return low > 0 ? low : 0;
  }
  DEEPSEEK_HOST_DEVICE static constexpr Number mask(int d) {
    const int width = bits - digit_bits * d < digit_bits ? bits - digit_bits * d : digit_bits;
    return ((Number{1} << width) - Number{1}) << shift(d);
  }
};

struct digit_found {
  std::int32_t digit, above, count;
};
// Shared memory of a selection.
struct digit_room {
  std::int32_t counts[digit_values];
  digit_found found;
  std::int32_t taken;
};

// The digit in which the `need`-th element from the top falls.
template <class Block>
DEEPSEEK_HOST_DEVICE digit_found find_digit(const Block& block, digit_room& room,
                                            std::int32_t need) {
  const int each = (digit_values + block.size() - 1) / block.size();
  std::int32_t own = 0;
  const int first = block.rank() * each;  // counted from the largest digit
  for (int i = first; i < first + each && i < digit_values; ++i) {
    own += room.counts[digit_values - 1 - i];
  }
  std::int32_t above = sum_before(block, own).before;
  if (above < need && need <= above + own) {
    int i = first;
    while (above + room.counts[digit_values - 1 - i] < need) {
      above += room.counts[digit_values - 1 - i++];
    }
    room.found = {digit_values - 1 - i, above, room.counts[digit_values - 1 - i]};
  }
  block.sync();
  return room.found;
}

// key_at(i): the key of element i, i < n. 1 <= k.
template <class Key, class Block, class F>
DEEPSEEK_HOST_DEVICE rank_limit<Key> select_first(const Block& block, index_t n, index_t k,
                                                  const F& key_at, digit_room& room) {
  rank_limit<Key> limit;
  if (k >= n) return limit;
  auto need = static_cast<std::int32_t>(k);
  using of_key = digit<Key>;
  using of_place = digit<std::uint32_t>;
  for (int d = 0; d < of_key::count + of_place::count; ++d) {
    const bool on_key = d < of_key::count;
    const int p = on_key ? 0 : d - of_key::count;
    block.sync();
    for (int i = block.rank(); i < digit_values; i += block.size()) room.counts[i] = 0;
    block.sync();
    for (index_t i = block.rank(); i < n; i += block.size()) {
      const Key key = key_at(i);
      const auto place = static_cast<std::uint32_t>(i);
      if (!limit.same(key, place)) continue;
      const auto at = on_key
                          ? static_cast<std::uint32_t>((key & of_key::mask(d)) >> of_key::shift(d))
                          : (~place & of_place::mask(p)) >> of_place::shift(p);
      block.atomic_add(&room.counts[at], std::int32_t{1});
    }
    block.sync();
    const digit_found found = find_digit(block, room, need);
    need -= found.above;
    if (on_key) {
      limit.mask |= of_key::mask(d);
      limit.prefix |= static_cast<Key>(found.digit) << of_key::shift(d);
    } else {
      limit.place_mask |= of_place::mask(p);
      limit.place_prefix |= static_cast<std::uint32_t>(found.digit) << of_place::shift(p);
    }
    if (found.count == need) break;
  }
  return limit;
}

// Bitonic, in shared or global memory; n is a power of two.
template <class Block, class Item, class Before>
DEEPSEEK_HOST_DEVICE void sort_items(const Block& block, Item* items, index_t n,
                                     const Before& before) {
  for (index_t size = 2; size <= n; size *= 2) {
    for (index_t step = size / 2; step > 0; step /= 2) {
      block.sync();
      for (index_t i = block.rank(); i < n / 2; i += block.size()) {
        const index_t low = 2 * i - (i & (step - 1)), high = low + step;
        const Item a = items[low], b = items[high];
        if (before(b, a) != ((low & size) == 0)) continue;
        items[low] = b;
        items[high] = a;
      }
    }
  }
  block.sync();
}

// The least that is >= n.
DEEPSEEK_HOST_DEVICE constexpr index_t power_of_two(index_t n) {
  index_t p = 1;
  while (p < n) p *= 2;
  return p;
}

// The k <= n first in rank, in any order, in items [power_of_two(k)]; what is left over goes last.
template <class Key, class Block, class F>
DEEPSEEK_HOST_DEVICE void gather_first(const Block& block, index_t n, index_t k, const F& key_at,
                                       digit_room& room, ranked_key<Key>* items) {
  const rank_limit<Key> limit = select_first<Key>(block, n, k, key_at, room);
  const index_t size = power_of_two(k);
  block.sync();
  if (block.rank() == 0) room.taken = 0;
  for (index_t i = k + block.rank(); i < size; i += block.size()) items[i] = {};
  block.sync();
  for (index_t i = block.rank(); i < n; i += block.size()) {
    const Key key = key_at(i);
    const auto place = static_cast<std::uint32_t>(i);
    if (limit.takes(key, place)) {
      items[block.atomic_add(&room.taken, std::int32_t{1})] = {key, place};
    }
  }
  block.sync();
}

}  // namespace deepseek
