// SPDX-License-Identifier: Apache-2.0
// Rows in groups (experts, sequences) whose offsets only the device knows, cut into tiles of at
// most `tile` rows of one group. The host launches slots(), an upper bound of the tiles; slot
//   first_slot(g) = offsets[g] / tile + g
// begins group g, which needs ceil(rows / tile) <= first_slot(g + 1) - first_slot(g) slots: so a
// block finds its tile by one search in the offsets, and at most one slot a group stays empty.
// No offsets: one group of all rows. Groups that each have places for `capacity` rows need no
// search: counted_groups. Proofs: tests/simulation/expert_forms.cpp.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

DEEPSEEK_HOST_DEVICE constexpr index_t first_slot(index_t offset, index_t group, index_t tile) {
  return offset / tile + group;
}

// Rows first .. end - 1 of group `group`; begin: the group's first row. Empty: first == end.
struct row_tile {
  index_t group, first, end, begin;
  DEEPSEEK_HOST_DEVICE bool empty() const { return first >= end; }
};

DEEPSEEK_HOST_DEVICE constexpr row_tile tile_of_slot(index_t slot, index_t group, index_t begin,
                                                     index_t end, index_t tile) {
  const index_t first = begin + (slot - first_slot(begin, group, tile)) * tile;
  const index_t last = first + tile < end ? first + tile : end;
  return {group, first, last > first ? last : first, begin};
}

// How many of f(0), f(1), ... f(n - 1) hold, where none holds after one that does not: all threads
// of a warp look, 32 at a time.
template <class Block, class F>
DEEPSEEK_HOST_DEVICE index_t count_first(const Block& block, index_t n, const F& f) {
  index_t low = 0, size = n;  // the answer is in low .. low + size
  while (size > 0) {
    const index_t step = (size + warp_size - 1) / warp_size;
    const index_t at = low + (block.lane() + 1) * step - 1;  // the last of this lane's part
    const bool holds = at < low + size && f(at);
    const index_t whole = block.combine_warp(holds ? index_t{1} : index_t{0}, plus{});
    const index_t end = low + size;
    low += whole * step;
    size = low + step < end ? step : end - low;
    if (step == 1) return low;
  }
  return low;
}

template <class Offsets>
struct row_tiles {
  Offsets offsets;  // [groups + 1], or [0]
  index_t rows, tile;

  DEEPSEEK_HOST_DEVICE index_t groups() const {
    return offsets.extent(0) > 0 ? offsets.extent(0) - 1 : 1;
  }
  DEEPSEEK_HOST_DEVICE index_t slots() const {
    return offsets.extent(0) > 0 ? rows / tile + groups() : (rows + tile - 1) / tile;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE row_tile find(const Block& block, index_t slot) const {
    if (offsets.extent(0) == 0) return tile_of_slot(slot, 0, 0, rows, tile);
    const index_t after = count_first(
        block, groups(), [&](index_t g) { return first_slot(offsets(g), g, tile) <= slot; });
    const index_t g = after > 0 ? after - 1 : 0;
    return tile_of_slot(slot, g, offsets(g), offsets(g + 1), tile);
  }
  // The group of a row that one of them has.
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t group_of(const Block& block, index_t row) const {
    if (offsets.extent(0) == 0) return 0;
    return count_first(block, groups(), [&](index_t g) { return offsets(g) <= row; }) - 1;
  }
};
template <class Offsets>
row_tiles(Offsets, index_t, index_t) -> row_tiles<Offsets>;

// In place of offsets: group g has places for the rows g * capacity on, of which counts[g] are
// there. Where something is wrong with the call's data no group has rows.
template <class Counts>
struct counted_groups {
  Counts counts;
  index_t capacity;
  fault_place faults;

  DEEPSEEK_HOST_DEVICE index_t extent(int) const { return counts.extent(0) + 1; }
  DEEPSEEK_HOST_DEVICE index_t count(index_t g) const { return faults.found() ? 0 : counts(g); }
};

template <class Counts>
struct row_tiles<counted_groups<Counts>> {
  counted_groups<Counts> groups_of;
  index_t rows, tile;

  DEEPSEEK_HOST_DEVICE index_t groups() const { return groups_of.counts.extent(0); }
  DEEPSEEK_HOST_DEVICE index_t each() const { return (groups_of.capacity + tile - 1) / tile; }
  DEEPSEEK_HOST_DEVICE index_t slots() const { return groups() * each(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE row_tile find(const Block&, index_t slot) const {
    const index_t g = slot / each(), begin = g * groups_of.capacity;
    const index_t first = begin + slot % each() * tile, end = begin + groups_of.count(g);
    const index_t last = first + tile < end ? first + tile : end;
    return {g, first, last > first ? last : first, begin};
  }
};

// Rows first_of(groups, g) .. end_of(groups, g) - 1 are those of group g.
template <class Offsets>
DEEPSEEK_HOST_DEVICE index_t first_of(const Offsets& offsets, index_t g) {
  return offsets(g);
}
template <class Offsets>
DEEPSEEK_HOST_DEVICE index_t end_of(const Offsets& offsets, index_t g) {
  return offsets(g + 1);
}
template <class Counts>
DEEPSEEK_HOST_DEVICE index_t first_of(const counted_groups<Counts>& groups, index_t g) {
  return g * groups.capacity;
}
template <class Counts>
DEEPSEEK_HOST_DEVICE index_t end_of(const counted_groups<Counts>& groups, index_t g) {
  return g * groups.capacity + groups.count(g);
}

}  // namespace deepseek
