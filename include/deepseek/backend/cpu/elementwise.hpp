// SPDX-License-Identifier: Apache-2.0
// Element by element over views of one shape and any rank whose last extents are contiguous:
// for_each_span(b, f, v...) calls f(n, pointer...) on spans of at most 8192 elements, in parallel.
// Where every view is contiguous the whole is one row. f must treat each element alone, so that
// bits do not depend on where a span begins.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

template <class F, class V, class... More>
void for_each_span(const cpu& b, const F& f, const V& v, const More&... more) {
  constexpr index_t longest = 8192;
  if (v.contiguous() && (more.contiguous() && ...)) {
    parallel_rows(b, v.size(), longest, [&](index_t first, index_t last) {
      f(last - first, v.data() + first, (more.data() + first)...);
    });
    return;
  }
  const index_t length = row_length(v), spans = chunks_of(length, longest);
  const index_t pieces = row_count(v) * spans;
  const index_t per_task = std::clamp<index_t>(longest / length, 1, 1024);
  parallel_rows(b, pieces, per_task, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      const index_t row = i / spans, from = i % spans * longest;
      f(std::min(longest, length - from), row_at(v, row).data() + from,
        (row_at(more, row).data() + from)...);
    }
  });
}

}  // namespace deepseek
