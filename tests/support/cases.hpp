// SPDX-License-Identifier: Apache-2.0
// Which sizes to test, and how to combine several lists of choices without their full product.
#pragma once

#include <cstddef>
#include <vector>

namespace support {

// Around every power of two, tile edge and lane count; 0 and 1; odd and large.
inline constexpr std::size_t sizes[] = {0,   1,   2,   3,   5,   7,    8,    9,   15, 16,
                                        17,  24,  31,  32,  33,  48,   63,   64,  65, 96,
                                        127, 128, 129, 255, 257, 1000, 1025, 4097};
inline constexpr std::size_t size_count = sizeof sizes / sizeof sizes[0];

// The sizes from `low` to `high`, both included.
std::vector<std::size_t> sizes_between(std::size_t low, std::size_t high);

// Rows of choices, one number per factor, row[f] < levels[f], such that any two choices of any two
// factors meet in some row. Deterministic. Where more than `at_most` rows are needed, `at_most` of
// them, evenly taken (0: all).
std::vector<std::vector<std::size_t>> pairwise(const std::vector<std::size_t>& levels,
                                               std::size_t at_most = 0);

}  // namespace support
