// SPDX-License-Identifier: Apache-2.0
// Which rows a block of an attention kernel has.
#pragma once

#include "deepseek/backend/cuda/attention/tiles.hpp"

namespace deepseek::cuda_attention {

// A block of the launch: which rows, and which columns of what it writes.
template <class S>
struct row_task {
  sequence<S> seq;
  row_group rows;
  index_t kv, first_column, columns;
  bool exists;
};

// The launch of one block for each tile of `Rows` rows, key-value head, part of its query heads and
// chunk of `chunk` columns; late queries first, which see most under a causal pattern. OneQuery:
// a tile has heads of one query only.
template <int Rows, class Q, class K, class Spec, bool OneQuery = false>
struct row_launch {
  Q q;
  K k;
  Spec spec;
  index_t width, chunk;

  DEEPSEEK_HOST_DEVICE head_parts parts() const {
    head_parts cut = head_parts::of(q.extent(1) / k.extent(1), Rows);
    if constexpr (OneQuery) cut.queries = 1;
    return cut;
  }
  DEEPSEEK_HOST_DEVICE index_t chunks() const {
    return width <= chunk ? 1 : (width + chunk - 1) / chunk;
  }
  index_t slots() const { return slot_count(spec.query_offsets, q.extent(0), parts().queries); }
  index_t blocks() const {
    if (q.extent(1) == 0) return 0;
    return slots() * k.extent(1) * parts().parts * chunks();
  }
  DEEPSEEK_HOST_DEVICE auto task(index_t block, index_t count) const {
    const head_parts cut = parts();
    const index_t group = q.extent(1) / k.extent(1);
    index_t at = count - 1 - block;
    const index_t column = at % chunks() * chunk;
    at /= chunks();
    const index_t part = at % cut.parts * cut.heads;
    at /= cut.parts;
    const index_t kv = at % k.extent(1);
    const slot where = slot_at(spec.query_offsets, cut.queries, at / k.extent(1));
    const auto seq = sequence_at(spec, where.sequence, q.extent(0), k.extent(0));
    const index_t first = where.tile * cut.queries, left = seq.queries - first;
    const row_group rows{first, left < cut.queries ? left : cut.queries, kv * group + part,
                         cut.heads,
                         static_cast<int>(group - part < cut.heads ? group - part : cut.heads)};
    return row_task<typename decltype(seq.pages.pages)::space>{
        seq, rows, kv, column, width - column < chunk ? width - column : chunk, left > 0};
  }
};

}  // namespace deepseek::cuda_attention
