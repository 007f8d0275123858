// SPDX-License-Identifier: Apache-2.0
// recent_rows: the state of a decoder that looks back at most Keep rows: rows [.., W] of the last
// positions, in memory that does not grow with the sequence. The first kept row stands at a
// multiple of Align, so that what cuts rows into windows or tiles of Align sees the same ones as
// without decoding. append gives all that the new rows may need: a view that begins at position
// `first`, in the state or, where that is too small for both, in scratch memory of the call. Going
// back: to position 0, or by at most `room` positions; else an error (index_range), before anything
// is written. The rule is the same for every Keep, so all layers of a net agree.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/copy.hpp"

#include <algorithm>

namespace deepseek {

template <class Rows>
struct positioned_rows {
  Rows rows;
  index_t first;  // position of row 0
};

template <class T, class S, index_t W, index_t Keep, index_t Align>
struct recent_rows {
  static constexpr index_t room = 64;  // positions that may be taken back
  static constexpr index_t most = 2 * (Keep + room) + Align;
  tensor<T, S, dyn, W> kept;
  index_t first = 0, end = 0;  // positions held

  void reserve(index_t capacity) {
    kept = tensor<T, S, dyn, W>({std::min(capacity, most), W});
    first = end = 0;
  }

  // x: rows of positions start .. start + n - 1.
  template <class Call, class X>
  positioned_rows<view<const T, S, dyn, W>> append(const Call& c, const X& x) {
    const index_t start = c.options.start, n = x.extent(0), last = start + n;
    require(start == 0 || (start <= end && start + room >= end), error_code::index_range,
            "recent_rows: position ", start, " after ", end,
            " positions; go on there, begin at 0 or take back at most ", room);
    if (start == 0) first = 0;
    const index_t held = start - first;
    end = last;
    if (held + n <= kept.extent(0)) {
      ops::copy(c.backend, x, rows(kept.view(), held, n));
      return {as_const(rows(kept.view(), 0, held + n)), first};
    }
    auto all = c.scratch.template make<T, dyn, W>(held + n);
    ops::copy(c.backend, rows(kept.view(), 0, held), rows(all, 0, held));
    ops::copy(c.backend, x, rows(all, held, n));
    const index_t before = first;
    first = std::max(before, (last - Keep - room) / Align * Align);
    ops::copy(c.backend, rows(all, first - before, last - first),
              rows(kept.view(), 0, last - first));
    return {as_const(all), before};
  }
};

}  // namespace deepseek
