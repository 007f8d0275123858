// SPDX-License-Identifier: Apache-2.0
// What attention asks the cache for ahead of its use: the pattern says which key tile comes next,
// so its lines are fetched a share at a time while the present one is computed. Changes no result.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"

namespace deepseek::cpu_attention {

// Strips first .. last - 1 of `all` fetch their part of n things.
struct share {
  index_t first, last, all;
  index_t begin(index_t n) const { return n * first / all; }
  index_t end(index_t n) const { return n * last / all; }
};

inline constexpr index_t line_bytes = 64;

template <class E>
DEEPSEEK_INLINE void fetch_span(const E* from, index_t n) {
  constexpr index_t line = line_bytes / static_cast<index_t>(sizeof(E));
  for (index_t i = 0; i < n; i += line) __builtin_prefetch(from + i, 0, 2);
}
// n elements side by side, from the start of a line.
template <class E>
void fetch_part(const E* from, index_t n, share part) {
  constexpr index_t line = line_bytes / static_cast<index_t>(sizeof(E));
  const index_t lines = (n + line - 1) / line, first = part.begin(lines);
  fetch_span(from + first * line, std::min(part.end(lines) * line, n) - first * line);
}
// Heads first .. first + count - 1 of a token. Rows of other strides are read as they come.
template <class View>
void fetch_heads(const View& v, index_t token, index_t first, index_t count) {
  if (v.stride(2) != 1) return;
  for (index_t h = first; h < first + count; ++h) {
    fetch_span(row_of(v, token, h).data, v.extent(2));
  }
}
// Rows of a key tile, where they stand.
template <class View>
void fetch_keys(const View& v, const attention_range& range, key_tile_of at, share part) {
  const index_t count = std::min(key_tile, range.keys - at.k0), last = part.end(count);
  for (index_t j = part.begin(count); j < last; ++j) {
    fetch_heads(v, range.key_row(at.k0 + j), at.kv, 1);
  }
}

}  // namespace deepseek::cpu_attention
