// SPDX-License-Identifier: Apache-2.0
// Where the bytes of an int8 weight [n, k] lie: panels of 32 columns (output channels), the last as
// narrow as what is left; inside a panel groups of 4 steps of k, inside a group the columns, inside
// a column its 4 bytes:   [n / 32][k / 4][columns of the panel][4].
// k is filled up to whole groups with zeros. Behind the last panel lie zeros, so that a register of
// 128 bytes may be read from any group. The same on every machine: it may be written to files.
#pragma once

#include "deepseek/core/space.hpp"

namespace deepseek {

struct int8_layout {
  index_t n = 0, k = 0;

  static constexpr index_t panel = 32, group = 4, register_bytes = panel * group, alignment = 64;
  // 255 * 127 * k stays inside 31 bits.
  static constexpr index_t deepest = 2147483647 / (255 * 127);

  DEEPSEEK_HOST_DEVICE constexpr index_t depth() const { return (k + group - 1) / group * group; }
  DEEPSEEK_HOST_DEVICE constexpr index_t size() const {
    return (n * depth() + register_bytes + alignment - 1) / alignment * alignment;
  }
  DEEPSEEK_HOST_DEVICE constexpr index_t first_of_panel(index_t column) const {
    return column / panel * panel;
  }
  DEEPSEEK_HOST_DEVICE constexpr index_t panel_width(index_t column) const {
    const index_t left = n - first_of_panel(column);
    return left < panel ? left : panel;
  }
  // Bytes from one group of 4 steps to the next, in the panel of this column.
  DEEPSEEK_HOST_DEVICE constexpr index_t group_step(index_t column) const {
    return panel_width(column) * group;
  }
  DEEPSEEK_HOST_DEVICE constexpr index_t at(index_t column, index_t step) const {
    const index_t first = first_of_panel(column);
    return first * depth() + step / group * group_step(column) + (column - first) * group +
           step % group;
  }
};

static_assert(int8_layout{40, 6}.at(31, 3) == 127 && int8_layout{40, 6}.at(0, 4) == 128 &&
              int8_layout{40, 6}.at(32, 0) == 256 && int8_layout{40, 6}.at(39, 5) == 317);

}  // namespace deepseek
