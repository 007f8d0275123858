// SPDX-License-Identifier: Apache-2.0
// What attention asks the cache for ahead of its use: the pattern says which key tile comes next,
// so its lines are fetched a few at a time while the present one is computed (many at once would
// make the loads of the present one wait). Changes no result.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"

#include <cstddef>

namespace deepseek::cpu_attention {

// Lines that will be read soon, as blocks of rows, in order.
class line_stream {
 public:
  void clear() { count_ = lines_ = at_ = row_ = column_ = 0; }

  // Beyond `most` blocks: read as they come.
  template <class E>
  void add(const E* first, index_t stride, index_t rows, index_t width) {
    constexpr auto size = static_cast<index_t>(sizeof(E));
    if (count_ == most || rows <= 0 || width <= 0) return;
    blocks_[count_++] = {reinterpret_cast<const std::byte*>(first), stride * size, rows,
                         width * size};
    lines_ += rows * ((width * size + line - 1) / line);
  }
  // Heads first .. first + heads - 1 of some tokens; rows of other strides are read as they come.
  struct heads_of {
    index_t token, count, head, heads;
  };
  template <class View>
  void add(const View& v, const heads_of& of) {
    if (v.stride(2) != 1 || (of.heads > 1 && v.stride(1) != v.extent(2))) return;
    add(row_of(v, of.token, of.head).data, v.stride(0), of.count, of.heads * v.extent(2));
  }
  // Keys of a tile, where they stand.
  template <class View>
  void add(const View& v, const attention_range& range, key_tile_of at) {
    const index_t count = std::min({key_tile, range.keys - at.k0, range.run_of_keys(at.k0)});
    add(v, heads_of{range.key_row(at.k0), count, at.kv, 1});
  }

  void spread_over(index_t pieces) { share_ = (lines_ + pieces - 1) / pieces; }
  // The share of some pieces of work.
  void fetch(index_t pieces = 1) {
    for (index_t left = pieces * share_; left > 0 && at_ < count_;) {
      const block& b = blocks_[at_];
      const std::byte* const from = b.first + row_ * b.stride + column_;
      const index_t here = std::min(left, (b.width - column_ + line - 1) / line);
      for (index_t i = 0; i < here; ++i) __builtin_prefetch(from + i * line, 0, 2);
      left -= here;
      column_ += here * line;
      if (column_ < b.width) continue;
      column_ = 0;
      if (++row_ < b.rows) continue;
      row_ = 0, ++at_;
    }
  }

 private:
  static constexpr index_t line = 64, most = 8;
  struct block {
    const std::byte* first;
    index_t stride, rows, width;
  };
  block blocks_[most];
  index_t count_ = 0, lines_ = 0, share_ = 0;
  index_t at_ = 0, row_ = 0, column_ = 0;
};

// The first key tile of the query tile that begins at query i0; the end: it has none.
template <class P>
index_t first_tile(const head_group<P>& group, index_t i0) {
  if (i0 >= group.range.queries) return group.range.keys;
  const index_t i1 = std::min(i0 + group.queries_per_tile(), group.range.queries);
  return next_tile(group, group.range.start + i0, group.range.start + i1, 0);
}
template <class P>
line_stream::heads_of rows_from(const head_group<P>& group, index_t i0) {
  const index_t count = std::min(group.queries_per_tile(), group.range.queries - i0);
  return {group.range.query + i0, count, group.first, group.heads};
}

}  // namespace deepseek::cpu_attention
