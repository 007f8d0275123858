// SPDX-License-Identifier: Apache-2.0
// Which slot of the rows (row_tiles.hpp) a block of a product has, and which stretch of the
// outputs: neighbouring blocks read the same weights. In 32 bits, where a division is short.
// bunched: the same for tile t of blocks that take tile after tile: bunches of 8 slots, in a bunch
// stretch by stretch, so that what runs at once shares rows as well, and few of an expert's
// weights.
#pragma once

#include "deepseek/core/space.hpp"

namespace deepseek {

struct block_place {
  index_t slot, across;
  template <class Block>
  DEEPSEEK_HOST_DEVICE block_place(const Block& block, index_t slots)
      : slot(static_cast<std::uint32_t>(block.index()) % static_cast<std::uint32_t>(slots)),
        across(static_cast<std::uint32_t>(block.index()) / static_cast<std::uint32_t>(slots)) {}
  constexpr DEEPSEEK_HOST_DEVICE block_place(index_t the_slot, index_t stretch)
      : slot(the_slot), across(stretch) {}

  DEEPSEEK_HOST_DEVICE static constexpr block_place bunched(index_t t, index_t slots,
                                                            index_t stretches) {
    constexpr index_t deep = 8;
    const index_t first = t / (deep * stretches) * deep;
    const index_t count = first + deep < slots ? deep : slots - first;
    const index_t within = t - first * stretches;
    return {first + within % count, within / count};
  }
};

}  // namespace deepseek
