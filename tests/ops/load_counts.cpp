// SPDX-License-Identifier: Apache-2.0
// expert_load, choice_load and compressed_offsets: counts against plain loops, every layout,
// nothing to count, errors.
#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/compress.hpp"

#include "deepseek/backend/reference/balance_loss.hpp"
#include "deepseek/backend/reference/compress.hpp"

#include "ops/table.hpp"

using namespace table;
using ds::error_code;

namespace {

constexpr layout every_layout[] = {layout::contiguous, layout::padded, layout::offset,
                                   layout::transposed};

// Rising offsets of `parts` parts, some of them empty.
ints drawn_offsets(std::size_t parts, support::numbers& from) {
  ints out{0};
  for (std::size_t i = 0; i < parts; ++i) {
    out.push_back(out.back() + static_cast<std::int32_t>(std::fabs(from.normal()) * 4));
  }
  return out;
}

// One column, so that every layout but the first puts gaps between the numbers.
template <class T>
sheet<T> column(const std::vector<T>& values, layout how) {
  return sheet<T>(values.size(), 1, how, values);
}

}  // namespace

TEST_CASE("expert_load: rows between offsets are added") {
  for (const layout how : every_layout) {
    for (const std::size_t experts : {std::size_t{0}, std::size_t{1}, std::size_t{7}}) {
      const std::string text = support::text("experts", experts, "layout", static_cast<int>(how));
      support::numbers from(text);
      const ints offsets = drawn_offsets(experts, from);
      on_both([&](const auto& b) {
        sheet<std::int32_t> in = column(offsets, how);
        sheet<float> load = column(std::vector<float>(experts, 2), how);
        ds::ops::expert_load(b, in.vector(), load.vector());
        bool right = in.unchanged() && load.clean();
        for (std::size_t e = 0; e < experts; ++e) {
          right = right && load.values()[e] == 2 + static_cast<float>(offsets[e + 1] - offsets[e]);
        }
        support::expect_true("expert_load", text, right, "wrong counts or memory");
      });
    }
  }
  sheet<std::int32_t> in = column(ints{0, 1, 2}, layout::contiguous);
  sheet<float> load(3, 1, layout::contiguous);
  on_both([&](const auto& b) {
    CHECK_ERROR(error_code::shape_mismatch, "expert_load: offsets[3]", "expected 4",
                ds::ops::expert_load(b, in.vector(), load.vector()));
    CHECK_ERROR(
        error_code::invalid_argument, "expert_load: load",
        ds::ops::expert_load(b, in.vector(), ds::view<float, ds::host, ds::dyn>(nullptr, {2})));
  });
  facets("expert_load", {"forward", "strides", "zero", "errors"});
  support::not_applicable("expert_load", "gradient");
}

TEST_CASE("choice_load: ids are counted") {
  for (const layout how : every_layout) {
    for (const std::size_t tokens : {std::size_t{0}, std::size_t{1}, std::size_t{33}}) {
      const std::string text = support::text("tokens", tokens, "layout", static_cast<int>(how));
      support::numbers from(text);
      ints ids;
      for (std::size_t i = 0; i < tokens * 3; ++i) {
        ids.push_back(static_cast<std::int32_t>(std::fabs(from.normal()) * 3) % 5);
      }
      on_both([&](const auto& b) {
        sheet<std::int32_t> in(tokens, 3, how, ids);
        sheet<float> load = column(std::vector<float>(5, 1), how);
        ds::ops::choice_load(b, in.matrix(), load.vector());
        bool right = in.unchanged() && load.clean();
        for (std::int32_t e = 0; e < 5; ++e) {
          const auto count = static_cast<float>(std::count(ids.begin(), ids.end(), e));
          right = right && load.values()[static_cast<std::size_t>(e)] == 1 + count;
        }
        support::expect_true("choice_load", text, right, "wrong counts or memory");
      });
    }
  }
  sheet<std::int32_t> outside(1, 2, layout::contiguous, ints{4, 5}),
      nobody(1, 2, layout::contiguous, ints{4, -1});
  on_both([&](const auto& b) {
    sheet<float> load = column(std::vector<float>(5, 1), layout::contiguous);
    CHECK_ERROR(error_code::index_range, "5",
                ds::ops::choice_load(b, outside.matrix(), load.vector()));
    CHECK_ERROR(error_code::index_range, "-1",
                ds::ops::choice_load(b, nobody.matrix(), load.vector()));
    CHECK(load.values() == std::vector<float>(5, 1));
    CHECK_ERROR(error_code::invalid_argument, "choice_load: load",
                ds::ops::choice_load(b, outside.matrix(),
                                     ds::view<float, ds::host, ds::dyn>(nullptr, {5})));
  });
  facets("choice_load", {"forward", "strides", "zero", "errors"});
  support::not_applicable("choice_load", "gradient");
}

TEST_CASE("compressed_offsets: whole windows of each sequence") {
  for (const layout how : every_layout) {
    for (const std::size_t sequences : {std::size_t{0}, std::size_t{1}, std::size_t{6}}) {
      for (const std::int32_t ratio : {1, 3, 4}) {
        const std::string text =
            support::text("sequences", sequences, "ratio", ratio, "layout", static_cast<int>(how));
        support::numbers from(text);
        const ints offsets = drawn_offsets(sequences, from);
        ints want{0};
        for (std::size_t s = 0; s < sequences; ++s) {
          want.push_back(want.back() + (offsets[s + 1] - offsets[s]) / ratio);
        }
        on_both([&](const auto& b) {
          sheet<std::int32_t> in = column(offsets, how), out(sequences + 1, 1, how);
          const auto last = ds::ops::compressed_offsets(b, in.vector(), ratio, out.vector());
          support::expect_true(
              "compressed_offsets", text,
              last == want.back() && out.values() == want && in.unchanged() && out.clean(),
              "wrong offsets or memory");
        });
      }
    }
  }
  on_both([](const auto& b) {
    const ds::view<std::int32_t, ds::host, ds::dyn> no_offsets(nullptr, {0});
    CHECK(ds::ops::compressed_offsets(b, no_offsets, 4, no_offsets) == 0);
    std::int32_t three[] = {0, 1, 2}, two[2];
    const ds::view<std::int32_t, ds::host, ds::dyn> in(three, {3});
    CHECK_ERROR(
        error_code::shape_mismatch, "compressed_offsets: out",
        ds::ops::compressed_offsets(b, in, 4, ds::view<std::int32_t, ds::host, ds::dyn>(two, {2})));
    CHECK_ERROR(error_code::invalid_argument, "ratio is 0",
                ds::ops::compressed_offsets(b, in, 0, in));
  });
  facets("compressed_offsets", {"forward", "strides", "zero", "errors"});
  support::not_applicable("compressed_offsets", "gradient");
}
