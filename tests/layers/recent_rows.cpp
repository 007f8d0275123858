// SPDX-License-Identifier: Apache-2.0
// recent_rows: what append gives holds the last rows and the new ones, begins at a multiple of
// Align and, with the memory, does not grow; going back, gaps.
#include "deepseek/layers/recent_rows.hpp"

#include "deepseek/backend/reference/copy.hpp"
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
    bool good = all.first % 4 == 0 && all.first <= std::max<ds::index_t>(start - 10, 0) &&
                all.first + all.rows.extent(0) == start + n;
    for (ds::index_t i = 0; i < all.rows.extent(0); ++i) {
      good = good && all.rows(i, 1) == static_cast<float>(all.first + i);
    }
    return good && state.kept.extent(0) <= rows_type::most;
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

TEST_CASE("recent_rows: back by at most 64 positions, no gaps") {
  appender a(1000);
  for (ds::index_t i = 0; i < 500; i += 5) a.right(i, 5);
  CHECK(a.right(436, 10));
  CHECK(a.right(446, 1));
  const ds::index_t first = a.state.first;
  CHECK_ERROR(ds::error_code::index_range, "recent_rows: position 382 after 447", a.right(382, 1));
  CHECK_ERROR(ds::error_code::index_range, "recent_rows: position 448 after 447", a.right(448, 1));
  CHECK((a.state.first == first && a.state.end == 447));
  CHECK(a.right(447, 1));
}
