// SPDX-License-Identifier: Apache-2.0
// Which rows a block of a grouped product has, when only the device knows the experts' offsets. The
// launch has row_slots(rows, experts, tile) = rows / tile + experts slots; expert e owns the slots
//   offsets[e] / tile + e .. offsets[e + 1] / tile + e,
// which are enough for its rows (floor(b / t) - floor(a / t) + 1 >= ceil((b - a) / t)) and follow
// one another without gaps, so a block finds its expert by bisection over the offsets and no map is
// built. Slots that are left over are empty.
#pragma once

#include "deepseek/core/space.hpp"

#include <type_traits>

namespace deepseek {

// Rows first .. last - 1 of one expert; first == last: nothing to do.
struct expert_slot {
  index_t expert = 0, first = 0, last = 0;
};

// Offsets [experts + 1], `step` elements apart; null: one expert has all rows.
struct expert_offsets {
  const std::int32_t* data = nullptr;
  index_t step = 1, experts = 1, rows = 0;

  DEEPSEEK_HOST_DEVICE constexpr index_t operator()(index_t e) const {
    if (data == nullptr) return e == 0 ? 0 : rows;
    return data[e * step];
  }
  // Rows that belong to an expert.
  DEEPSEEK_HOST_DEVICE constexpr index_t end() const { return (*this)(experts); }
};

DEEPSEEK_HOST_DEVICE constexpr index_t row_slots(const expert_offsets& o, index_t tile) {
  return o.data == nullptr ? (o.rows + tile - 1) / tile : o.rows / tile + o.experts;
}

DEEPSEEK_HOST_DEVICE constexpr expert_slot rows_of_slot(const expert_offsets& o, index_t tile,
                                                        index_t slot) {
  index_t e = 0, beyond = o.experts;  // the last e with offsets[e] / tile + e <= slot
  while (beyond - e > 1) {
    const index_t middle = e + (beyond - e) / 2;
    if (o(middle) / tile + middle <= slot) {
      e = middle;
    } else {
      beyond = middle;
    }
  }
  const index_t last = o(e + 1);
  const index_t first = o(e) + (slot - (o(e) / tile + e)) * tile;
  if (first >= last) return {e, last, last};
  return {e, first, first + tile < last ? first + tile : last};
}

// Which slot a block has, and which stretch of the outputs: neighbouring blocks read the same
// weights. In 32 bits, where a division is short.
struct block_place {
  std::uint32_t slot, across;
  template <class Block>
  DEEPSEEK_HOST_DEVICE block_place(const Block& block, index_t slots)
      : slot(static_cast<std::uint32_t>(block.index()) % static_cast<std::uint32_t>(slots)),
        across(static_cast<std::uint32_t>(block.index()) / static_cast<std::uint32_t>(slots)) {}
};

template <class O>
expert_offsets expert_offsets_of(const O& offsets, index_t rows) {
  static_assert(std::is_same_v<typename O::value_type, std::int32_t>,
                "deepseek::grouped_gemm: the offsets are not int32; pass what expert_plan made");
  return {offsets.data(), offsets.stride(0), offsets.extent(0) - 1, rows};
}

}  // namespace deepseek
