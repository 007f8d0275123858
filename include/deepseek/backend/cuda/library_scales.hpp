// SPDX-License-Identifier: Apache-2.0
// Scales of 8-bit floats in a product of the vendor's library, floats in the order that it reads. A
// factor is seen as lines along k (the rows of a, the columns of b), cut into blocks of 128 of k:
//   tensor     one number
//   outer      one for each line
//   line_128   one for each line and block, lines next to each other: [blocks, lines]
//   block_128  one for 128 lines and a block, blocks next to each other: [lines / 128, blocks
//              rounded up to a multiple of 4]
// Where a is line_128 (1 x 128) and b is block_128, those are the scales of DeepSeek-V3 (2024),
// section 3.3. The number of lines is a multiple of 4 with either.
#pragma once

#include "deepseek/core/space.hpp"

namespace deepseek {

enum class library_scales { none, tensor, outer, line_128, block_128 };

inline constexpr index_t scaled_block = 128;

DEEPSEEK_HOST_DEVICE constexpr index_t scaled_blocks(index_t n) {
  return (n + scaled_block - 1) / scaled_block;
}
DEEPSEEK_HOST_DEVICE constexpr index_t whole_fours(index_t n) {
  return (n + 3) / 4 * 4;
}

// Where the scale of a line in a block of k stands, of `lines` lines of `depth` elements.
DEEPSEEK_HOST_DEVICE constexpr index_t scale_place(library_scales how, index_t lines, index_t depth,
                                                   index_t line, index_t block) {
  switch (how) {
    case library_scales::outer:
      return line;
    case library_scales::line_128:
      return block * lines + line;
    case library_scales::block_128:
      return line / scaled_block * whole_fours(scaled_blocks(depth)) + block;
    case library_scales::none:
    case library_scales::tensor:
      break;
  }
  return 0;
}
constexpr index_t scale_count(library_scales how, index_t lines, index_t depth) {
  switch (how) {
    case library_scales::tensor:
      return 1;
    case library_scales::outer:
      return lines;
    case library_scales::line_128:
      return lines * scaled_blocks(depth);
    case library_scales::block_128:
      return scaled_blocks(lines) * whole_fours(scaled_blocks(depth));
    case library_scales::none:
      break;
  }
  return 0;
}

// Rows in parts of `each`, a multiple of 4, so that what stands between a library's product and our
// last step stays small. The last part is filled up to a multiple of 4.
struct row_parts {
  index_t rows, each;

  constexpr index_t count() const { return (rows + each - 1) / each; }
  constexpr index_t rows_of(index_t part) const {
    return rows - part * each < each ? rows - part * each : each;
  }
  constexpr index_t stored() const { return whole_fours(rows); }
  // Scales line_128 of all parts, one part after the other.
  DEEPSEEK_HOST_DEVICE constexpr index_t scales_before(index_t part, index_t depth) const {
    return part * each * scaled_blocks(depth);
  }
  DEEPSEEK_HOST_DEVICE constexpr index_t scale_at(index_t depth, index_t row, index_t block) const {
    const index_t part = row / each, left = whole_fours(rows) - part * each;
    return scales_before(part, depth) + scale_place(library_scales::line_128,
                                                    left < each ? left : each, depth,
                                                    row - part * each, block);
  }
};

// Sums of `width` columns of `bytes` each: 32 MiB, which stay in the L2 cache of large devices, but
// at least 512 rows. (Reasoned, not measured.)
constexpr row_parts parts_of(index_t rows, index_t width, index_t bytes) {
  constexpr index_t room = index_t{32} << 20, least = 512;
  const index_t fit = room / (width * bytes) / scaled_block * scaled_block;
  return {rows, fit < least ? least : fit};
}

}  // namespace deepseek
