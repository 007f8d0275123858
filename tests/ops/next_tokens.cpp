// SPDX-License-Identifier: Apache-2.0
// next_tokens: no id crosses the end of a sequence, in place too, and bad offsets change nothing.
#include "deepseek/ops/next_tokens.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/next_tokens.hpp"
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

view of(ints& v) {
  return {v.data(), {static_cast<ds::index_t>(v.size())}};
}

template <class B>
void check(const B& b) {
  for (int i = 0; i < 200; ++i) {
    support::numbers from(static_cast<std::uint64_t>(i));
    ints offsets = {0}, ids, want;
    const auto sequences = from.below(6);
    for (std::uint64_t s = 0; s < sequences; ++s) {
      ints own(from.below(i % 3 == 0 ? 2 : 40));
      for (auto& id : own) id = static_cast<std::int32_t>(from.below(1000));
      ids.insert(ids.end(), own.begin(), own.end());
      for (std::size_t k = 1; k < own.size(); ++k) want.push_back(own[k]);
      if (!own.empty()) want.push_back(-7);
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
    const ds::index_t n = offsets.back(), stride = 1 + i % 2;
    support::guarded<std::int32_t> out(static_cast<std::size_t>(n * stride));
    ds::ops::next_tokens(b, of(ids), of(offsets), -7, view(out.data(), {n}, {stride}));
    CHECK(out.intact());
    ints got;
    for (ds::index_t k = 0; k < n; ++k) got.push_back(out[static_cast<std::size_t>(k * stride)]);
    support::expect_true("next_tokens", support::text("case", i, "sequences", sequences),
                         got == want, "an id is wrong");
    ds::ops::next_tokens(b, of(ids), of(offsets), -7, of(ids));
    support::expect_true("next_tokens", support::text("in place", i), ids == want, "wrong");
  }
  ints one = {4, 5, 6}, none;
  ds::ops::next_tokens(b, of(one), view(), 9, of(one));
  support::expect_true("next_tokens", "one sequence", one == ints{5, 6, 9}, "wrong");
  ds::ops::next_tokens(b, of(none), view(), 9, of(none));
  support::facet("next_tokens", "forward");
  support::facet("next_tokens", "strides");
  support::facet("next_tokens", "zero");
  support::not_applicable("next_tokens", "gradient");
}

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  const auto& op = ds::ops::next_tokens;
  ints ids = {1, 2, 3, 4}, out(4, -1), late = {1, 4}, falling = {0, 3, 2, 4}, early = {0, 3};
  CHECK_ERROR(error_code::offsets, "next_tokens: offsets[0] is 1",
              op(b, of(ids), of(late), 0, of(out)));
  CHECK_ERROR(error_code::offsets, "offsets[2] is 2", "less than 3",
              op(b, of(ids), of(falling), 0, of(out)));
  CHECK_ERROR(error_code::offsets, "offsets[1] is 3", "4 rows",
              op(b, of(ids), of(early), 0, of(out)));
  CHECK_ERROR(error_code::shape_mismatch, "out[4]",
              op(b, view(ids.data(), {3}), view(), 0, of(out)));
  CHECK_ERROR(error_code::invalid_argument, "ids[4]",
              op(b, view(nullptr, {4}), view(), 0, of(out)));
  CHECK(out == ints(4, -1));
  support::facet("next_tokens", "errors");
}

}  // namespace

TEST_CASE("next_tokens: every row") {
  check(ds::reference{});
  check(ds::cpu{});
}
TEST_CASE("next_tokens: errors") {
  check_errors(ds::reference{});
  check_errors(ds::cpu{});
}
