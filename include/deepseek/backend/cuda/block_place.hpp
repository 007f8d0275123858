// SPDX-License-Identifier: Apache-2.0
// Which slot of the rows (row_tiles.hpp) a block of a product has, and which stretch of the
// outputs: neighbouring blocks read the same weights. In 32 bits, where a division is short.
#pragma once

#include "deepseek/core/space.hpp"

namespace deepseek {

struct block_place {
  index_t slot, across;
  template <class Block>
  DEEPSEEK_HOST_DEVICE block_place(const Block& block, index_t slots)
      : slot(static_cast<std::uint32_t>(block.index()) % static_cast<std::uint32_t>(slots)),
        across(static_cast<std::uint32_t>(block.index()) / static_cast<std::uint32_t>(slots)) {}
};

}  // namespace deepseek
