// SPDX-License-Identifier: Apache-2.0
// Places for what is kept of the key tiles of one head of a sequence while its query tiles are
// taken in order. A key tile holds a place from the first query tile that visits it to the last;
// then the place serves another. So patterns along the diagonal stay in the core's cache at any
// length, and others keep what will be read again. Cost: the pattern lists each visit once more.
#pragma once

#include "deepseek/backend/cpu/attention/tiles.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"

#include <cstdint>

namespace deepseek::cpu_attention {

struct slot_memory;

class key_slots {
 public:
  static constexpr std::int32_t unopened = -1, closed = -2;

  // The key tiles of `among` (at tile edges), none of which is closed before the end.
  explicit key_slots(key_range among)
      : low_(among.low), tiles_((among.high - among.low + key_tile - 1) / key_tile) {
    auto* const memory =
        kernels::scratch<slot_memory, std::int32_t>(static_cast<std::size_t>(3 * tiles_ + 1));
    slot_ = memory, last_ = slot_ + tiles_, free_ = last_ + tiles_;
    std::fill_n(slot_, tiles_, unopened);
    std::fill_n(last_, tiles_, std::numeric_limits<std::int32_t>::max());
  }
  // Of a whole sequence: a tile may be closed after its last visit.
  template <class P>
  explicit key_slots(const head_group<P>& group) : key_slots(key_range{0, group.range.keys}) {
    const index_t step = group.queries_per_tile();
    for (index_t t = 0; t < group.query_tiles(); ++t) {
      const index_t q0 = group.range.start + t * step;
      const index_t q1 = group.range.start + std::min((t + 1) * step, group.range.queries);
      for (index_t k0 = next_tile(group, q0, q1, 0); k0 < group.range.keys;
           k0 = next_tile(group, q0, q1, k0 + key_tile)) {
        last_[k0 / key_tile] = static_cast<std::int32_t>(t);
      }
    }
  }

  // Where the tile that begins at key k0 is kept; negative: nowhere.
  index_t slot(index_t k0) const { return slot_[(k0 - low_) / key_tile]; }
  bool is_open(index_t k0) const { return slot(k0) >= 0; }
  bool is_closed(index_t k0) const { return slot(k0) == closed; }
  index_t open(index_t k0) {
    std::int32_t& slot = slot_[(k0 - low_) / key_tile];
    slot = free_count_ > 0 ? free_[--free_count_] : used_++;
    return slot;
  }
  bool closes_after(index_t k0, index_t query_tile) const {
    return last_[(k0 - low_) / key_tile] == query_tile;
  }
  void close(index_t k0) {
    std::int32_t& slot = slot_[(k0 - low_) / key_tile];
    free_[free_count_++] = slot;
    slot = closed;
  }

 private:
  index_t low_, tiles_;
  std::int32_t *slot_, *last_, *free_;
  std::int32_t used_ = 0;
  index_t free_count_ = 0;
};

}  // namespace deepseek::cpu_attention
