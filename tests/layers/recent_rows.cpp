// SPDX-License-Identifier: Apache-2.0
// recent_rows: what append gives holds the last rows and the new ones, begins at a multiple of
// Align and, with the memory, does not grow; going back; a start that moves.
#include "deepseek/layers/recent_rows.hpp"

#include "deepseek/backend/reference/copy.hpp"
#include "deepseek/backend/reference/place_rows.hpp"
#include "deepseek/backend/reference/positions.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using rows_type = ds::recent_rows<float, ds::host, 2, 10, 4>;

struct appender {
  ds::reference b;
  ds::arena<ds::host> tape;
  rows_type state;
  explicit appender(ds::index_t capacity) { state.reserve(capacity); }

  // Appends rows of positions start .. start + n - 1, whose numbers are their positions; true if
  // what comes back is right for a reader that looks back at 10 rows.
  bool right(ds::index_t start, ds::index_t n) {
    const ds::scope freed(b.workspace());
    ds::tensor<float, ds::host, ds::dyn, 2> x({n, 2});
    for (ds::index_t i = 0; i < 2 * n; ++i) x.data()[i] = static_cast<float>(start + i / 2);
    const ds::call<ds::reference> c{b, {.start = start}, b.workspace(), tape, 0, {}};
    const auto all = state.append(c, ds::as_const(x.view()));
    const ds::index_t back = std::max<ds::index_t>(start - 10, 0);
    bool good = all.first % 4 == 0 && all.first <= back && all.start == start - all.first &&
                all.first + all.rows.extent(0) == start + n;
    for (ds::index_t i = back - all.first; i < all.rows.extent(0); ++i) {
      good = good && all.rows(i, 1) == static_cast<float>(all.first + i);
    }
    return good && state.kept.extent(0) <= rows_type::most;
  }
  // The same of one row whose position stands in memory; it is found at the number that it gives.
  bool right_moving(ds::index_t at, ds::index_t n = 1) {
    const auto position = static_cast<std::int32_t>(at);
    const ds::scope freed(b.workspace());
    ds::tensor<float, ds::host, ds::dyn, 2> x({n, 2});
    for (ds::index_t i = 0; i < 2 * n; ++i) x.data()[i] = static_cast<float>(position);
    const ds::run_options<ds::host> run{.start = ds::start_moves,
                                        .moving = {{&position, {1}}, state.kept.extent(0)}};
    const ds::call<ds::reference> c{b, run, b.workspace(), tape, 0, {}};
    const auto all = state.append(c, ds::as_const(x.view()));
    bool good = all.start == 0;
    for (ds::index_t i = 0; i <= std::min<ds::index_t>(position, 10); ++i) {
      good = good && all.rows(all.at(0) - i, 1) == static_cast<float>(position - i);
    }
    return good && all.at(0) % 4 == position % 4;
  }
};

}  // namespace

TEST_CASE("recent_rows: row by row, in pieces, in one large piece") {
  appender one(1000), pieces(1000), small(20);
  bool good = true;
  for (ds::index_t i = 0; i < 700; ++i) good = good && one.right(i, 1);
  for (ds::index_t i = 0; i < 700; i += 7) good = good && pieces.right(i, 7);
  CHECK(good);
  CHECK(pieces.right(700, 300));
  CHECK(pieces.right(1000, 1));
  CHECK(one.state.kept.extent(0) == rows_type::most);
  CHECK(small.right(0, 20));
  CHECK(small.state.kept.extent(0) == 20);
  CHECK(small.right(0, 3));  // from the beginning
  CHECK(small.right(3, 0));
}

TEST_CASE("recent_rows: back by at most 64 positions from the furthest, more than once") {
  appender a(1000);
  bool good = true;
  for (ds::index_t i = 0; i < 500; i += 5) good = good && a.right(i, 5);
  for (const ds::index_t at : {436, 437, 440, 436, 470, 436}) good = good && a.right(at, 3);
  for (ds::index_t i = 439; i < 900; ++i) good = good && a.right(i, 1);
  CHECK(good);
  CHECK(a.right(836, 90));
  CHECK(a.right(926, 1));
  appender small(20);
  CHECK_ERROR(ds::error_code::index_range, "recent_rows: positions 18 .. 20", "capacity of 20",
              small.right(18, 3));
}

TEST_CASE("recent_rows: a start that moves") {
  for (const ds::index_t capacity : {1000, 100}) {
    appender a(capacity);
    bool good = true;
    for (ds::index_t i = 0; i < 40; i += 8) good = good && a.right(i, 8);
    for (ds::index_t i = 40; i < 90; ++i) good = good && a.right_moving(i);
    CHECK(good);
    CHECK(a.right(90, 3));  // and by a number again
    for (ds::index_t i = 93; i < std::min<ds::index_t>(capacity, 700); ++i) {
      good = good && a.right_moving(i);
    }
    CHECK(good);
    if (capacity < 700) continue;
    CHECK(a.right(700, 200));
    CHECK(a.right_moving(900));
    CHECK(a.right_moving(850));  // back
    CHECK(a.right(851, 7));
  }
  appender a(1000);
  CHECK_ERROR(ds::error_code::unsupported, "recent_rows: 2 rows", a.right_moving(3, 2));
}
