// SPDX-License-Identifier: Apache-2.0
// recent_rows: the state of a decoder that looks back at most Keep rows: rows [.., W] of the last
// positions, in memory that does not grow with the sequence: a ring whose rows are kept twice
// (ops/row_place.hpp), so that the last ones are neighbours; a small capacity has a row for each
// position. The ring has whole multiples of Align rows, so that what cuts rows into windows or
// tiles of Align sees the same ones as without decoding.
// append gives all that the new rows may need: a view whose row 0 is position `first`, a multiple
// of Align, in the state or, where that is too small for both, in scratch memory of the call. Rows
// more than Keep before the new ones may hold anything. Where the start moves (core/call.hpp), one
// row is appended, and its number in the view stands in memory. Storage only: a call begins at 0 or
// at most `rewinds` before the furthest position written. A model's decoder sees to that where the
// state that holds such rows says `rewinds` (layers/written_reach.hpp).
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/place_rows.hpp"
#include "deepseek/ops/positions.hpp"

#include <algorithm>

namespace deepseek {

// Rows and where those of the call begin: at row start, or at row at[0] where the start moves.
template <class Rows, class S>
struct positioned_rows {
  Rows rows;
  index_t first;  // position of row 0; of no use where the start moves
  index_t start;  // 0 where it moves
  sequence_offsets<S> at = {};
};

template <class T, class S, index_t W, index_t Keep, index_t Align>
struct recent_rows {
  static constexpr index_t rewinds = 64;
  static constexpr index_t least = Keep + std::max(rewinds, Align - 1);
  static constexpr index_t ring = (least + Align - 1) / Align * Align;
  static constexpr index_t most = 2 * ring;  // rows of the state
  using positioned = positioned_rows<view<const T, S, dyn, W>, S>;
  tensor<T, S, dyn, W> kept;

  void reserve(index_t capacity) { kept = tensor<T, S, dyn, W>({std::min(capacity, most), W}); }

  // x: rows of the call's positions.
  template <class Call, class X>
  positioned append(const Call& c, const X& x) {
    if (c.options.moving.moves()) return append_moving(c, x);
    const index_t start = c.options.start, last = start + x.extent(0);
    require(goes_around() || last <= kept.extent(0), error_code::index_range,
            "recent_rows: positions ", start, " .. ", last - 1, " do not fit a capacity of ",
            kept.extent(0), "; make the cache larger or rewind");
    if (c.options.written != nullptr) c.options.written->count(start, x.extent(0));
    if (goes_around() && x.extent(0) + Keep > ring) return by_scratch(c, x);
    write(c, x, start);
    const index_t end = last > 0 ? place().row(last - 1) + 1 : 0, first = last - end;
    return {rows(as_const(kept.view()), 0, end), first, start - first};
  }

 private:
  bool goes_around() const { return kept.extent(0) == most; }
  row_place place() const { return {.ring = goes_around() ? ring : 0}; }

  template <class Call, class X>
  positioned append_moving(const Call& c, const X& x) {
    const auto& moving = c.options.moving;
    require(x.extent(0) == 1, error_code::unsupported, "recent_rows: ", x.extent(0),
            " rows from a start that moves; append one at a time");
    ops::place_rows(c.backend, x, moving.at, kept.view(), place());
    if (!goes_around()) {
      return {rows(as_const(kept.view()), 0, moving.bound), 0, 0, moving.at};
    }
    const auto at = c.scratch.template make<std::int32_t, dyn>(1);
    ops::positions(c.backend, moving.at, sequence_offsets<S>{}, at, 1, place());
    return {as_const(kept.view()), 0, 0, as_const(at)};
  }

  // The rows before, then x, in scratch memory; the state gets the last ones.
  template <class Call, class X>
  positioned by_scratch(const Call& c, const X& x) {
    const index_t start = c.options.start, n = x.extent(0);
    const index_t first = std::max<index_t>(start - Keep, 0) / Align * Align, held = start - first;
    auto all = c.scratch.template make<T, dyn, W>(held + n);
    if (held > 0) {
      const index_t end = place().row(start - 1) + 1;
      ops::copy(c.backend, rows(kept.view(), end - held, held), rows(all, 0, held));
    }
    ops::copy(c.backend, x, rows(all, held, n));
    const index_t last = std::min(n, ring);
    write(c, rows(all, held + n - last, last), start + n - last);
    return {as_const(all), first, held};
  }

  // x: rows of positions from t on, at most the ring.
  template <class Call, class X>
  void write(const Call& c, const X& x, index_t t) {
    if (!goes_around()) return ops::copy(c.backend, x, rows(kept.view(), t, x.extent(0)));
    for (index_t i = 0, n = 0; i < x.extent(0); i += n) {
      const index_t row = place().first(t + i);
      n = std::min(x.extent(0) - i, ring - row);
      ops::copy(c.backend, rows(x, i, n), rows(kept.view(), row, n));
      ops::copy(c.backend, rows(x, i, n), rows(kept.view(), ring + row, n));
    }
  }
};

}  // namespace deepseek
