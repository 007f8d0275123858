// SPDX-License-Identifier: Apache-2.0
// How far ahead kernels ask memory for what they read once, in order.
#pragma once

#include <cstddef>

#include "deepseek/config.hpp"

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t line_bytes = 64;

// Bytes. One or few rows wait for memory alone; with more, so much is done with each line that the
// processor no longer runs ahead by itself. Measured: a Zen 5 core reads 43 GB/s for one row 4 KiB
// ahead (42 at 2, 41 at 16), and for 8 rows 38 GB/s at 6 to 8 KiB (35 at 12, 33 at 2); a Zen 4 core
// loses more to distances far from these (one row: 28 GB/s at 2 KiB, 22 at 12). Where a line takes
// many instructions, fewer lines are under way by themselves, and one row needs more (`ahead` of
// the forms in dot_tile.hpp).
constexpr std::ptrdiff_t stream_ahead(bool waits_for_memory) {
  return waits_for_memory ? 4096 : 8192;
}

// Strips of rows that share the fetching of what comes next: memory that brings 14 GB/s to a core
// (Emerald Rapids) stalls fewer strips that ask for more (int8, 32 rows: 2 of 4 strips 2.7 ms, all
// of them 1.9).
constexpr std::ptrdiff_t fetching_strips(std::ptrdiff_t strips) {
  return strips < 8 ? strips : 8;
}

// Of 16-bit and byte weights, where more than four strips leave time: two ask, or the first alone
// where a step has more than two lines. Experts of 48 rows, a Zen 4 core, one thread, all strips ->
// two: int8 142.6 -> 138.0 ms, bf16 276 -> 267 ms. (Float weights are twice as many bytes in that
// time: two threads 277 -> 289 ms. Compiled for AVX2, int8 won nothing.)
constexpr std::ptrdiff_t narrow_fetching_strips(std::ptrdiff_t strips) {
  return strips <= 4 ? strips : 2;
}
static_assert(narrow_fetching_strips(4) == 4 && narrow_fetching_strips(6) == 2);

// How far ahead rows that turn in registers are asked for, in bytes: short rows are soon over, then
// it is rows further on that come next (one row by [128, 512] in bf16, heads side by side: 16 -> 26
// GB/s).
constexpr std::ptrdiff_t turned_ahead(std::ptrdiff_t row) {
  return row > 0 && row <= 4096 ? 48 * row : 512;
}

// Lines that are asked for as they lie in memory, in whatever order they will be read: `width`
// bytes of a row, then `gap` bytes that nobody here reads. The processor then runs ahead, too, and
// they have room in the first cache: rows of 256 bytes that lie 2 KiB apart came at 23 GB/s when
// each was asked for a tile ahead, at 28 in order (a Zen 5 core, keys and values of 8 heads).
inline constexpr std::ptrdiff_t ordered_bytes = 1024;  // a divisor of `width` where there is a gap
struct line_order {
  const std::byte* at = nullptr;
  std::ptrdiff_t width = 0, gap = 0, left = 0;

  DEEPSEEK_INLINE void move(std::ptrdiff_t bytes) {
    at += bytes, left -= bytes;
    if (left <= 0) at += gap, left += width;
  }
};
// Asks for the next `Bytes`.
template <std::ptrdiff_t Bytes>
DEEPSEEK_INLINE void fetch_next(line_order& order) {
  for (std::ptrdiff_t i = 0; i < Bytes; i += line_bytes) __builtin_prefetch(order.at + i);
  order.move(Bytes);
}

}  // namespace deepseek::kernels
