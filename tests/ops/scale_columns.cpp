// SPDX-License-Identifier: Apache-2.0
// scale_columns against products in double: sizes, strides, types, threads, y over x, errors.
#include "deepseek/ops/scale_columns.hpp"

#include "deepseek/backend/cpu/scale_columns.hpp"
#include "ops/table.hpp"

using namespace table;

namespace {

constexpr const char* op = "scale_columns";

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const reals x = drawn<T>(c, c.size(), " x"), s = drawn_normal<float>(c, c.columns, " s");
  sheet<T> from(c.rows, c.columns, c.how, x), to(c.rows, c.columns, c.how);
  sheet<float> by(1, c.columns, layout::offset, s);
  const ds::view<float, ds::host, ds::dyn> scales(by.matrix().data(), {by.matrix().extent(1)});
  ds::ops::scale_columns(b, from.matrix(), scales, to.matrix());
  reals want;
  for (std::size_t i = 0; i < x.size(); ++i) want.push_back(x[i] * s[i % c.columns]);
  judge(op, where<T>(b, c), support::gemm_limits(type_of<T>, 1), want, to.values(),
        std::max<std::size_t>(c.columns, 1));
  support::expect_true(op, "memory " + where<T>(b, c),
                       from.unchanged() && by.unchanged() && to.clean(),
                       "an input or memory around the output was written");
  const auto y = to.values();
  ds::ops::scale_columns(b, from.matrix(), scales, from.matrix());
  support::expect_true(op, "y over x " + where<T>(b, c), support::same_bits(from.values(), y),
                       "y over x differs");
  return y;
}

}  // namespace

TEST_CASE("scale_columns: table of cases") {
  for (const shape_case& c : shape_cases({0, 1, 2, 9, 65}, {0, 1, 3, 16, 33, 700})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  facets(op, {"forward", "strides", "zero"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("scale_columns: errors") {
  ds::tensor<float, ds::host, 2, 8> x, y;
  ds::tensor<float, ds::host, 7> s;
  ds::tensor<float, ds::host, 8> right;
  ds::tensor<float, ds::host, 3, 8> tall;
  on_both([&](const auto& b) {
    CHECK_ERROR(ds::error_code::shape_mismatch, "scale_columns: s", "[7]",
                ds::ops::scale_columns(b, x, s, y));
    CHECK_ERROR(ds::error_code::shape_mismatch, "scale_columns: y", "[3, 8]",
                ds::ops::scale_columns(b, x, right, tall));
    CHECK_ERROR(
        ds::error_code::invalid_argument, "scale_columns: s",
        ds::ops::scale_columns(b, x, ds::view<const float, ds::host, ds::dyn>(nullptr, {8}), y));
  });
  facets(op, {"errors"});
}
