// SPDX-License-Identifier: Apache-2.0
// add_expert_bias and add_expert_sums: a bias for the rows of every expert, and its gradient.
#include "deepseek/ops/grouped_gemm.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "ops/table.hpp"

using namespace table;

namespace {

// rows: rows of all experts, columns: width. Experts 1 and 3 have no rows.
constexpr std::size_t experts = 4;
ints offsets_of(std::size_t rows) {
  const int n = static_cast<int>(rows);
  return {0, n / 3, n / 3, n, n};
}
std::size_t expert_of(std::size_t row, std::size_t rows) {
  return row < rows / 3 ? 0 : 2;
}

}  // namespace

TEST_CASE("add_expert_bias and add_expert_sums: sizes, layouts, values and types") {
  for (const shape_case& c : shape_cases({1, 2, 9, 70, 300}, {1, 5, 16, 33})) {
    everywhere("add_expert_bias", c.text(), [&](const auto& b, auto zero) {
      using T = decltype(zero);
      const reals bias = drawn<T>(c, experts * c.columns, " bias");
      const reals start = drawn_normal<T>(c, c.size(), " y");
      sheet<T> from(experts, c.columns, c.how, bias), y(c.rows, c.columns, c.how, start);
      sheet<T> sums(experts, c.columns, c.how, bias), x(c.rows, c.columns, c.how, start);
      sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, offsets_of(c.rows));
      ds::ops::add_expert_bias(b, from.matrix(), offsets.vector(), y.matrix());
      ds::ops::add_expert_sums(b, x.matrix(), offsets.vector(), sums.matrix());
      CHECK(
          (from.unchanged() && x.unchanged() && offsets.unchanged() && y.clean() && sums.clean()));
      reals want = start, size(c.size()), total = bias, scale = bias;
      for (double& e : scale) e = std::fabs(e);
      for (std::size_t i = 0; i < c.size(); ++i) {
        const std::size_t at = expert_of(i / c.columns, c.rows) * c.columns + i % c.columns;
        want[i] += bias[at];
        size[i] = std::fabs(start[i]) + std::fabs(bias[at]);
        total[at] += start[i];
        scale[at] += std::fabs(start[i]);
      }
      judge("add_expert_bias", where<T>(b, c), support::gemm_limits(type_of<T>, 1), want,
            y.values(), c.columns, size);
      support::limits l = support::gemm_limits(type_of<T>, c.rows + 1);
      if (type_of<T> == ds::dtype::f64) {  // the sums above err as well
        l.relative += static_cast<double>(c.rows) * 0x1p-53;
        l.c += static_cast<double>(c.rows);
      }
      judge("add_expert_sums", where<T>(b, c), l, total, sums.values(), c.columns, scale);
      return joined(y.values(), sums.values());
    });
  }
  facets("add_expert_bias", {"forward", "strides", "gradient"});  // linear: the sums are it
  facets("add_expert_sums", {"forward", "strides", "gradient"});
}

TEST_CASE("add_expert_bias and add_expert_sums: zero sizes and errors") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  float data[64] = {};
  std::int32_t starts[] = {0, 2, 3};
  const ds::view<std::int32_t, ds::host, ds::dyn> offsets(starts, {3});
  const matrix bias(data, {2, 4}), y(data, {3, 4}), wrong(data, {3, 5}), null(nullptr, {3, 4});
  on_both([&](const auto& b) {
    using ds::error_code;
    const auto& add = ds::ops::add_expert_bias;
    const auto& sum = ds::ops::add_expert_sums;
    CHECK_ERROR(error_code::shape_mismatch, "add_expert_bias: offsets[3]", "expected 4",
                add(b, y, offsets, y));
    CHECK_ERROR(error_code::shape_mismatch, "add_expert_bias: bias[2, 4]", "expected 5",
                add(b, bias, offsets, wrong));
    CHECK_ERROR(error_code::invalid_argument, "y[3, 4]", "null", add(b, bias, offsets, null));
    CHECK_ERROR(error_code::invalid_argument, "bias[2, 4]", "null",
                add(b, matrix(nullptr, {2, 4}), offsets, y));
    CHECK_ERROR(error_code::shape_mismatch, "add_expert_sums: offsets[3]", "expected 4",
                sum(b, y, offsets, y));
    CHECK_ERROR(error_code::shape_mismatch, "add_expert_sums: out[2, 4]", "expected 5",
                sum(b, wrong, offsets, bias));
    CHECK_ERROR(error_code::invalid_argument, "x[3, 4]", "null", sum(b, null, offsets, bias));
    std::int32_t none[3] = {};
    const ds::view<std::int32_t, ds::host, ds::dyn> empty(none, {3});
    float out[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    add(b, bias, empty, matrix(nullptr, {0, 4}));
    sum(b, matrix(nullptr, {0, 4}), empty, matrix(out, {2, 4}));
    const bool kept = out[0] == 1 && out[7] == 8;
    support::expect_true("add_expert_bias", "zero", kept, "something was written");
    support::expect_true("add_expert_sums", "zero", kept, "something was written");
  });
  for (const char* op : {"add_expert_bias", "add_expert_sums"}) facets(op, {"zero", "errors"});
}
