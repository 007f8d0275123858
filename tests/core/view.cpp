// SPDX-License-Identifier: Apache-2.0
// Views: extents and strides, static and run-time, slices, rows, transposes, heads, messages.
#include "deepseek/core/view.hpp"

#include <doctest/doctest.h>

#include "support/throws.hpp"

namespace ds = deepseek;
using matrix = ds::view<int, ds::host, ds::dyn, 4>;

namespace {
int numbers[24];
matrix three_by_four() {
  for (int i = 0; i < 24; ++i) numbers[i] = i;
  return {numbers, {3, 4}};
}
}  // namespace

TEST_CASE("a contiguous view counts in memory order") {
  const matrix v = three_by_four();
  static_assert(matrix::rank == 2 && matrix::static_extents[1] == 4);
  CHECK(v.extent(0) == 3);
  CHECK(v.size() == 12);
  CHECK(v.stride(0) == 4);
  CHECK(v(2, 1) == 9);
  CHECK(v.contiguous());
  CHECK(!v.empty());
  CHECK(matrix{}.empty());
  CHECK(ds::shape_string(v) == "[3, 4]");
}

TEST_CASE("strides: transposed, padded, broadcast") {
  const matrix v = three_by_four();
  const auto t = ds::transposed(v);
  static_assert(decltype(t)::static_extents[0] == 4);
  CHECK(t(1, 2) == v(2, 1));
  CHECK(!t.contiguous());
  const ds::view<int, ds::host, ds::dyn, ds::dyn> padded(numbers, {3, 3}, {4, 1});
  CHECK(padded(2, 2) == 10);
  CHECK(!padded.contiguous());
  const ds::view<int, ds::host, ds::dyn, ds::dyn> same_row(numbers, {5, 4}, {0, 1});
  CHECK(same_row(4, 3) == 3);
  const ds::view<int, ds::host, 2, 3, 4> batch(numbers, {2, 3, 4});
  CHECK(ds::transposed(batch)(1, 2, 0) == batch(1, 0, 2));
}

TEST_CASE("parts of a view share its memory") {
  const matrix v = three_by_four();
  const auto middle = ds::rows(v, 1, 2);
  CHECK(middle.extent(0) == 2);
  CHECK(&middle(0, 0) == &v(1, 0));
  const auto row = ds::slice(v, 2);
  static_assert(decltype(row)::rank == 1);
  CHECK(&row(3) == &v(2, 3));
  const auto heads = ds::as_heads<2, 2>(v);
  CHECK(&heads(2, 1, 0) == &v(2, 2));
  const auto of_column = ds::slice(ds::transposed(v), 1);
  CHECK(of_column(2) == 9);
}

TEST_CASE("a view whose type promises other extents than its data has is refused") {
  float data[6] = {};
  const ds::view<float, ds::host, ds::dyn, ds::dyn> any(data, {2, 3});
  using promised = ds::view<float, ds::host, ds::dyn, 4>;
  CHECK_THROWS_WITH_AS(promised{any},
                       "view: extent 1 is 3, the type of the view says 4; give data of that shape, "
                       "or a view whose extent is dyn",
                       ds::error);
  CHECK_THROWS_AS(promised(data, {1, 5}), ds::error);
  CHECK_THROWS_AS(promised(data, {1, 5}, {5, 1}), ds::error);
  CHECK(ds::view<const float, ds::host, 2, 3>(any).extent(1) == 3);
  // Nothing is promised about what is not there.
  const ds::view<float, ds::host, ds::dyn, ds::dyn> absent;
  CHECK(promised(absent).data() == nullptr);
}

TEST_CASE("a view of more elements or bytes than 64 bits count is refused") {
  using any = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using three = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  using row = ds::view<float, ds::host, ds::dyn>;
  constexpr auto overflow = ds::error_code::overflow;
  const ds::index_t half = ds::index_t{1} << 32, most = ds::index_t{1} << 62;
  float data[6] = {};
  CHECK_ERROR(overflow, "view", "[4294967296, 4294967296]", any(data, {half, half}));
  CHECK_ERROR(overflow, "view", "[4294967296, 4294967296]", any(data, {half, half}, {half, 1}));
  CHECK_ERROR(overflow, "view", "[4294967296, 4294967296]", any(data, {half, half}, {0, 0}));
  CHECK_ERROR(overflow, "view", "[4611686018427387904]", row(data, {most}));  // 2^64 bytes
  CHECK_ERROR(overflow, "view", "[0, 4294967296, 4294967296]", three(data, {0, half, half}));
  CHECK(three(data, {half, half, 0}).empty());
  CHECK(any(data, {half, half / 4}, {0, 0}).size() == most);  // one element, broadcast
}

TEST_CASE("conversions: to const, to and from run-time extents") {
  const matrix v = three_by_four();
  const ds::view<const int, ds::host, ds::dyn, ds::dyn> any(v);
  CHECK(any.extent(1) == 4);
  const ds::view<const int, ds::host, 3, 4> fixed(any);
  CHECK(fixed(2, 3) == 11);
  static_assert(
      !std::is_convertible_v<ds::view<const int, ds::host, 3>, ds::view<int, ds::host, 3>>);
  static_assert(!std::is_convertible_v<ds::view<int, ds::device, 3>, ds::view<int, ds::host, 3>>);
}
