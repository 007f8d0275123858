// SPDX-License-Identifier: Apache-2.0
// positions: every row's place inside its sequence, and bad offsets; a start that is read when the
// op runs, and place_rows, which writes rows there.
#include "deepseek/ops/positions.hpp"
#include "deepseek/ops/place_rows.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/place_rows.hpp"
#include "deepseek/backend/reference/positions.hpp"
#include "deepseek/core/tensor.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

using ints = std::vector<std::int32_t>;
using view = ds::view<std::int32_t, ds::host, ds::dyn>;

template <class B>
ints positions(const B& b, ds::index_t start, const ints& offsets, ds::index_t tokens,
               ds::index_t stride) {
  support::guarded<std::int32_t> at(offsets), out(static_cast<std::size_t>(tokens * stride));
  ds::ops::positions(b, start, view(at.data(), {static_cast<ds::index_t>(offsets.size())}),
                     view(out.data(), {tokens}, {stride}));
  CHECK(at.unchanged());
  CHECK(out.intact());
  ints values;
  for (ds::index_t i = 0; i < tokens * stride; ++i) {
    const std::int32_t v = out[static_cast<std::size_t>(i)];
    if (i % stride == 0) {
      values.push_back(v);
    } else {
      CHECK(v == support::poison<std::int32_t>());
    }
  }
  return values;
}

template <class B>
void check(const B& b) {
  for (int i = 0; i < 200; ++i) {
    support::numbers from(static_cast<std::uint64_t>(i));
    ints lengths(from.below(6)), offsets = {0}, want;
    for (auto& n : lengths) n = static_cast<std::int32_t>(from.below(i % 3 == 0 ? 2 : 40));
    const std::int32_t start = static_cast<std::int32_t>(from.below(1000));
    for (std::int32_t n : lengths) {
      for (std::int32_t k = 0; k < n; ++k) want.push_back(start + k);
      offsets.push_back(offsets.back() + n);
    }
    const auto got = positions(b, start, offsets, offsets.back(), 1 + i % 2);
    support::expect_true("positions", support::text("case", i, "sequences", lengths.size()),
                         got == want, "a position is wrong");
  }
  support::expect_true("positions", "one sequence", positions(b, 7, {}, 3, 1) == ints{7, 8, 9},
                       "wrong");
  support::expect_true("positions", "empty", positions(b, 7, {}, 0, 1).empty(), "wrong");
  const ints four = {0, 1, 1, 4};
  std::int32_t out[4] = {};
  ds::ops::positions(b, 3, view(const_cast<std::int32_t*>(four.data()), {4}), view(out, {4}), 128);
  support::expect_true("positions", "step", ints(out, out + 4) == ints{384, 384, 512, 640},
                       "wrong");
  support::facet("positions", "forward");
  support::facet("positions", "strides");
  support::facet("positions", "zero");
  support::not_applicable("positions", "gradient");
}

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  std::int32_t data[8] = {};
  const auto& op = ds::ops::positions;
  const view out(data, {4}), null(nullptr, {4});
  ints late = {1, 4}, falling = {0, 3, 2, 4}, early = {0, 3};
  const auto of = [](ints& v) { return view(v.data(), {static_cast<ds::index_t>(v.size())}); };
  CHECK_ERROR(error_code::offsets, "offsets[0] is 1", op(b, 0, of(late), out));
  CHECK_ERROR(error_code::offsets, "positions: offsets[2] is 2", "less than 3",
              op(b, 0, of(falling), out));
  CHECK_ERROR(error_code::offsets, "offsets[1] is 3", "4 rows", op(b, 0, of(early), out));
  CHECK_ERROR(error_code::invalid_argument, "start is -1", op(b, -1, view(), out));
  CHECK_ERROR(error_code::invalid_argument, "out[4]", op(b, 0, view(), null));
  CHECK_ERROR(error_code::overflow, "start 2147483647", op(b, 2147483647, view(), out));
  CHECK_ERROR(error_code::invalid_argument, "step is 0", op(b, 0, view(), out, 0));
  CHECK_ERROR(error_code::overflow, "step 128 times (start 16777215 + 4 tokens)",
              "at most 16777215", op(b, 16777215, view(), out, 128));
  CHECK_ERROR(error_code::overflow, "step 3000000000 times (start 0 + 4 tokens)",
              "exceeds 2147483647", "at most 0", op(b, 0, view(), out, 3000000000));
  for (std::int32_t v : data) CHECK(v == 0);
  support::facet("positions", "errors");
}

}  // namespace

template <class B>
void check_moving(const B& b) {
  using start = ds::view<const std::int32_t, ds::host, ds::dyn>;
  using rows = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using halves = ds::view<ds::bf16, ds::host, ds::dyn, ds::dyn>;
  ints out(4), seven = {7};
  ints two = {0, 3, 4};
  ds::ops::positions(b, start(seven.data(), {1}), view(), view(out.data(), {4}));
  support::expect_true("positions", "moving", out == ints{7, 8, 9, 10}, "wrong");
  ds::ops::positions(b, start(seven.data(), {1}), view(two.data(), {3}), view(out.data(), {4}));
  support::expect_true("positions", "moving, sequences", out == ints{7, 8, 9, 7}, "wrong");
  CHECK_ERROR(ds::error_code::shape_mismatch, "positions: start[0]",
              ds::ops::positions(b, start(seven.data(), {0}), view(), view(out.data(), {4})));
  const auto numbered = [&](ds::index_t step, const ds::row_place& place) {
    ds::ops::positions(b, start(seven.data(), {1}), view(), view(out.data(), {4}), step, place);
    return out;
  };
  support::expect_true("positions", "windows of 4", numbered(4, {.ratio = 4}) == ints{4, 8, 8, 8},
                       "wrong");
  support::expect_true("positions", "ring of 3", numbered(1, {.ring = 3}) == ints{4, 5, 3, 4},
                       "wrong");
  support::expect_true("positions", "ring of 4", numbered(1, {.ring = 4}) == ints{7, 4, 5, 6},
                       "wrong");
  CHECK_ERROR(ds::error_code::invalid_argument, "ratio is 0", numbered(1, {.ratio = 0}));
  CHECK_ERROR(ds::error_code::invalid_argument, "ring is -1", numbered(1, {.ring = -1}));
  CHECK_ERROR(ds::error_code::invalid_argument, "step is 0", numbered(0, {}));

  for (const std::int32_t first : {0, 2, 5}) {
    std::vector<float> x(2 * 5);  // 2 rows of 3 in rows of 5
    std::vector<ds::bf16> y(7 * 4, ds::bf16(-1.0F));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) + 0.5F;
    ds::ops::place_rows(b, rows(x.data(), {2, 3}, {5, 1}), start(&first, {1}),
                        halves(y.data(), {7, 3}, {4, 1}));
    bool right = true;
    for (std::int32_t r = 0; r < 7; ++r) {
      for (std::int32_t c = 0; c < 4; ++c) {
        const bool here = r >= first && r < first + 2 && c < 3;
        const float want = here ? static_cast<float>((r - first) * 5 + c) + 0.5F : -1.0F;
        right = right && static_cast<float>(y[static_cast<std::size_t>(r * 4 + c)]) == want;
      }
    }
    support::expect_true("place_rows", support::text("first", first), right, "a row went astray");
  }
  std::vector<float> x(4), y(6, 3.0F);
  const auto place = [&](std::int32_t first, ds::index_t n, ds::index_t width) {
    ds::ops::place_rows(b, rows(x.data(), {n, width}), start(&first, {1}), rows(y.data(), {3, 2}));
  };
  place(1, 0, 2);
  CHECK_ERROR(ds::error_code::index_range, "place_rows: first[0] is 2, outside 0 .. 1",
              place(2, 2, 2));
  CHECK_ERROR(ds::error_code::index_range, "first[0] is -1", place(-1, 2, 2));
  CHECK_ERROR(ds::error_code::shape_mismatch, "place_rows: x[4, 1]", place(0, 4, 1));
  CHECK_ERROR(ds::error_code::shape_mismatch, "more rows than y", place(0, 4, 2));
  CHECK_ERROR(
      ds::error_code::invalid_argument, "place_rows: first",
      ds::ops::place_rows(b, rows(x.data(), {2, 2}), start(nullptr, {1}), rows(y.data(), {3, 2})));
  const auto placed = [&](std::int32_t first, ds::index_t n, ds::index_t of,
                          const ds::row_place& at) {
    ds::ops::place_rows(b, rows(x.data(), {n, 1}), start(&first, {1}), rows(y.data(), {of, 1}), at);
  };
  CHECK_ERROR(ds::error_code::index_range, "first[0] is 12, outside 0 .. 11",
              placed(12, 1, 6, {.ratio = 2}));
  CHECK_ERROR(ds::error_code::index_range, "first[0] is -1", placed(-1, 1, 6, {.ring = 3}));
  CHECK_ERROR(ds::error_code::shape_mismatch, "x has 2 rows", placed(0, 2, 6, {.ratio = 2}));
  CHECK_ERROR(ds::error_code::shape_mismatch, "ring of 2", placed(0, 1, 6, {.ring = 2}));
  CHECK_ERROR(ds::error_code::shape_mismatch, "x has 4, for a ring", placed(0, 4, 6, {.ring = 3}));
  CHECK_ERROR(ds::error_code::invalid_argument, "ratio is 0", placed(0, 1, 6, {.ratio = 0}));
  for (float v : y) CHECK(v == 3.0F);
  for (std::size_t i = 0; i < 4; ++i) x[i] = static_cast<float>(i);
  placed(11, 1, 6, {.ratio = 2});
  support::expect_true("place_rows", "an entry", y == std::vector<float>{3, 3, 3, 3, 3, 0},
                       "astray");
  placed(1000, 3, 6, {.ring = 3});  // rows 1, 2, 0 and 4, 5, 3
  support::expect_true("place_rows", "a ring", y == std::vector<float>{2, 0, 1, 2, 0, 1}, "astray");
  for (const char* facet : {"forward", "strides", "zero", "errors"}) {
    support::facet("place_rows", facet);
  }
  support::not_applicable("place_rows", "gradient");
}

TEST_CASE("positions: a start that is read when the op runs") {
  check_moving(ds::reference{});
  check_moving(ds::cpu{});
}
TEST_CASE("positions: every row's place") {
  check(ds::reference{});
  check(ds::cpu{});
}
TEST_CASE("positions: errors") {
  check_errors(ds::reference{});
  check_errors(ds::cpu{});
}
