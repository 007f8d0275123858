// SPDX-License-Identifier: Apache-2.0
// may_overlap against the bytes themselves: never a common byte missed, no alarm for columns, heads
// or rows of one buffer.
#include "deepseek/core/apart.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

#include "support/throws.hpp"

namespace ds = deepseek;
using ds::may_overlap;
using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
using batch = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
using bytes = ds::view<std::uint8_t, ds::host, ds::dyn, ds::dyn>;

namespace {

float data[4096];

template <class V>
std::set<const char*> bytes_of(const V& v) {
  std::set<const char*> all;
  for (ds::index_t i = 0; i < v.extent(0); ++i) {
    for (ds::index_t j = 0; j < v.extent(1); ++j) {
      const char* at = reinterpret_cast<const char*>(&v(i, j));
      for (std::size_t k = 0; k < sizeof(v(i, j)); ++k) all.insert(at + k);
    }
  }
  return all;
}
template <class X, class Y>
bool meet(const X& x, const Y& y) {
  const auto of_x = bytes_of(x), of_y = bytes_of(y);
  return std::any_of(of_x.begin(), of_x.end(), [&](auto* p) { return of_y.count(p) > 0; });
}

}  // namespace

TEST_CASE("ranges that meet overlap wherever the second begins, ranges that do not are apart") {
  const matrix x(data + 16, {4, 4});
  for (int from = 0; from <= 32; ++from) {
    const matrix y(data + from, {4, 4});
    CHECK(may_overlap(x, y) == (from > 0 && from < 32));
  }
  CHECK(may_overlap(x, bytes(reinterpret_cast<std::uint8_t*>(data + 31) + 3, {1, 1})));
  CHECK(!may_overlap(x, bytes(reinterpret_cast<std::uint8_t*>(data + 32), {1, 1})));
  CHECK(may_overlap(x, ds::transposed(x)));
  CHECK(!may_overlap(x, matrix(data + 16, {0, 4})));
  CHECK(!may_overlap(x, matrix{}));
}

TEST_CASE("what lies between the elements of the other is apart") {
  const matrix left(data, {8, 4}, {12, 1}), middle(data + 4, {8, 4}, {12, 1}),
      wide(data + 3, {8, 2}, {12, 1});
  CHECK(!may_overlap(left, middle));
  CHECK(!may_overlap(middle, left));
  CHECK(!may_overlap(left, matrix(data + 12 * 3 + 8, {5, 4}, {12, 1})));  // other rows, too
  CHECK(may_overlap(left, wide));
  CHECK(may_overlap(middle, wide));
  CHECK(!may_overlap(ds::transposed(left), middle));
  CHECK(!may_overlap(matrix(data, {4, 4}, {24, 1}), matrix(data + 12, {8, 4}, {24, 1})));  // rows
  CHECK(
      !may_overlap(matrix(data, {8, 6}, {12, 2}), matrix(data + 1, {8, 6}, {12, 2})));  // even, odd
  // Queries and keys of one buffer, side by side over all heads or within each.
  CHECK(!may_overlap(batch(data, {5, 3, 4}, {24, 4, 1}), batch(data + 12, {5, 3, 4}, {24, 4, 1})));
  CHECK(!may_overlap(batch(data, {5, 3, 4}, {24, 8, 1}), batch(data + 4, {5, 3, 4}, {24, 8, 1})));
  CHECK(may_overlap(batch(data, {5, 3, 4}, {24, 8, 1}), batch(data + 3, {5, 3, 4}, {24, 8, 1})));
  // Rows that wrap around the end of a step: columns 10 .. 13 of rows of 12.
  CHECK(may_overlap(matrix(data + 10, {8, 4}, {12, 1}), matrix(data, {8, 4}, {12, 1})));
  CHECK(!may_overlap(matrix(data + 10, {8, 4}, {12, 1}), matrix(data + 2, {8, 4}, {12, 1})));
}

TEST_CASE("no common byte of strided views is missed, for any strides and element sizes") {
  std::mt19937 random(7);
  const auto within = [&](int n) { return static_cast<ds::index_t>(random() % unsigned(n)); };
  int alarms = 0, meetings = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const auto stride = [&] { return within(15) - 7; };
    const matrix x(data + 200 + within(12), {within(5), within(5)}, {stride(), stride()});
    const bytes y(reinterpret_cast<std::uint8_t*>(data + 200) + within(48), {within(5), within(5)},
                  {4 * stride(), stride()});
    const bool both = meet(x, y);
    if (both) CHECK(may_overlap(x, y));
    if (both) CHECK(may_overlap(y, x));
    meetings += both;
    alarms += !both && may_overlap(x, y);
  }
  CHECK(meetings > 300);
  CHECK(alarms < 600);
}

TEST_CASE("the same places are the same memory, extents, strides and element size") {
  const matrix x(data, {4, 4});
  CHECK(ds::same_places(x, ds::as_const(x)));
  CHECK(!ds::same_places(x, ds::transposed(x)));
  CHECK(!ds::same_places(x, matrix(data + 1, {4, 4})));
  CHECK(!ds::same_places(x, bytes(reinterpret_cast<std::uint8_t*>(data), {4, 4})));
  CHECK(ds::same_places(matrix(data, {1, 4}, {4, 1}), matrix(data, {1, 4}, {9, 1})));
  CHECK_ERROR(ds::error_code::aliasing, "op: x[4, 4]", "overlaps", "memory of its own",
              ds::require_apart(x, x, "op: x"));
  CHECK_ERROR(ds::error_code::aliasing, "op: x[4, 4]", "overlaps", "the same view",
              ds::require_same_or_apart(x, matrix(data + 1, {4, 4}), "op: x"));
  ds::require_same_or_apart(x, x, "op: x");
}

TEST_CASE("strides of more bytes than 64 bits count are an error") {
  const matrix far(data, {3, 1}, {ds::index_t{1} << 60, 1});
  CHECK_ERROR(ds::error_code::overflow, "view[3, 1]", "1152921504606846976", "strides",
              may_overlap(far, far));
}
