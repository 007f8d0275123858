// SPDX-License-Identifier: Apache-2.0
// entry_cache: a decoder's entries [entries, W], entry g for the positions g Ratio .. (g + 1) Ratio
// - 1 of the sequence. append writes those that a call completes, from floor(start / Ratio) on, and
// gives all of them. Where the start moves (core/call.hpp) it writes one, that of the window which
// the position lies in, whole or not (a later step writes it again), and gives those up to the
// bound: who reads them counts from the start, entry_start.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/attention.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/place_rows.hpp"

namespace deepseek {

template <class T, class S, index_t W, index_t Ratio>
struct entry_cache {
  tensor<T, S, dyn, W> rows_of_entries;

  static constexpr index_t bytes_per_token() { return W * static_cast<index_t>(sizeof(T)) / Ratio; }
  void reserve(index_t capacity) {
    rows_of_entries = tensor<T, S, dyn, W>({(capacity + Ratio - 1) / Ratio, W});
  }

  template <class Call, class X>
  view<const T, S, dyn, W> append(const Call& c, const X& x) {
    const auto all = rows_of_entries.view();
    const auto& moving = c.options.moving;
    if (moving.moves()) {
      ops::place_rows(c.backend, x, moving.at, all, {.ratio = Ratio});
      return as_const(rows(all, 0, moving.bound / Ratio));
    }
    const index_t before = c.options.start / Ratio, n = x.extent(0);
    ops::copy(c.backend, x, rows(all, before, n));
    return as_const(rows(all, 0, before + n));
  }
};

// The spec of queries of this call against entries.
template <index_t Ratio, class Call, class P>
auto entry_spec(const Call& c, const P& pattern, double scale,
                const sequence_offsets<typename Call::space>& entries) {
  const auto& run = c.options;
  attention_spec<P, typename Call::space> spec{pattern, scale, run.sequences, entries, run.start};
  if (run.moving.moves()) {
    spec.start = 0;
    spec.start_at = run.moving.at;
    spec.ratio = Ratio;
  }
  return spec;
}

}  // namespace deepseek
