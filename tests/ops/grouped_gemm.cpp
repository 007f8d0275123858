// SPDX-License-Identifier: Apache-2.0
// grouped_gemm and its backward against the oracle: experts with many, few and no rows, every
// layout and type; gradients by differences; added once; errors.
#include "deepseek/ops/grouped_gemm.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "ops/grouped_gemm_case.hpp"

using namespace grouped_gemm_test;

TEST_CASE("grouped_gemm: sizes, layouts, values and types") {
  auto cases = shape_cases({1, 2, 9, 33, 70}, {1, 3, 16, 33, 65}, {1, 5, 16, 40});
  // Whole packets of 16 bytes: what tensor cores of a device take, in each of their kernels.
  for (const std::size_t rows : {6u, 70u, 170u}) cases.push_back({rows, 160, 72});
  for (const shape_case& c : cases) {
    everywhere(op, c.text(), [&](const auto& b, auto zero) {
      using T = decltype(zero);
      const reals x = drawn<T>(c, c.size(), " x");
      const reals w = drawn_normal<T>(c, experts * c.columns * c.extra, " w");
      return joined(check_forward<T>(b, c, x, w), check_backward<T>(b, c, x, w));
    });
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("grouped_gemm: gradients by differences; a second backward adds as much again") {
  on_both([](const auto& b) {
    for (layout how : {layout::contiguous, layout::padded, layout::transposed}) {
      const shape_case c{7, 3, 4, how};
      const reals x = drawn_normal<double>(c, 21, " x"), w = drawn_normal<double>(c, 60, " w");
      const reals weights = support::loss_weights(28);
      sheet<double> from(7, 3, how, x), dy(7, 4, how, weights), dx(7, 3, how);
      sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, offsets_of(7));
      stack_of<double> stack(c, w), dw(c, reals(60));
      const auto once = [&] {
        ds::ops::grouped_gemm_backward(
            b, ds::grouped_gemm_inputs{from.matrix(), stack.view(), offsets.vector()}, dy.matrix(),
            ds::grouped_gemm_gradients{dx.matrix(), dw.view()});
      };
      once();
      const auto loss = [&](const reals& xs, const reals& ws) {
        sheet<double> in(7, 3, how, xs), y(7, 4, how);
        stack_of<double> moved(c, ws);
        ds::ops::grouped_gemm(b, in.matrix(), moved.view(), offsets.vector(), y.matrix());
        return support::weighted_sum(weights, y.values());
      };
      support::expect_gradient(
          op, "dx " + c.text(),
          support::check_gradient([&](const reals& at) { return loss(at, w); }, x, dx.values()));
      support::expect_gradient(
          op, "dw " + c.text(),
          support::check_gradient([&](const reals& at) { return loss(x, at); }, w, dw.values()));
      const auto dx_first = dx.values();
      auto doubled = dw.values();
      for (double& e : doubled) e += e;
      once();
      CHECK(support::same_bits(dx.values(), dx_first));
      CHECK(support::same_bits(dw.values(), doubled));
    }
  });
}

TEST_CASE("grouped_gemm: small integers are exact; a row has the bits of the row alone") {
  const shape_case c{40, 64, 17, layout::contiguous, support::values::integer};
  on_both([&](const auto& b) {
    const reals x = drawn<float>(c, c.size(), " x"), w = drawn<float>(c, experts * 64 * 17, " w");
    const auto y = check_forward<float>(b, c, x, w);
    support::expect(op, "exact",
                    support::compare(support::exact(ds::dtype::f32), y, product(c, x, w), c.extra));
    // Row 30 is of expert 3: alone it is the only row of that expert.
    sheet<float> from(1, 64, layout::contiguous, reals(x.begin() + 30 * 64, x.begin() + 31 * 64));
    sheet<float> alone(1, 17, layout::contiguous);
    sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, ints{0, 0, 0, 0, 1, 1});
    stack_of<float> stack(c, w);
    ds::ops::grouped_gemm(b, from.matrix(), stack.view(), offsets.vector(), alone.matrix());
    CHECK(support::same_bits(alone.values(),
                             std::vector<float>(y.begin() + 30 * 17, y.begin() + 31 * 17)));
  });
}

TEST_CASE("grouped_gemm: no rows, no columns, empty sums") {
  on_both([&](const auto& b) {
    for (const shape_case& c : {shape_case{0, 3, 4}, shape_case{5, 3, 0}, shape_case{5, 0, 4}}) {
      sheet<float> x(c.rows, c.columns, c.how, reals(c.size(), 1.0));
      sheet<float> dy(c.rows, c.extra, c.how, reals(c.rows * c.extra, 1.0));
      sheet<float> y(c.rows, c.extra, c.how), dx(c.rows, c.columns, c.how);
      sheet<std::int32_t> offsets(experts + 1, 1, c.how, offsets_of(c.rows));
      const reals start(experts * c.columns * c.extra, 0.5);
      stack_of<float> w(c, start), dw(c, start);
      ds::ops::grouped_gemm(b, x.matrix(), w.view(), offsets.vector(), y.matrix());
      ds::ops::grouped_gemm_backward(
          b, ds::grouped_gemm_inputs{x.matrix(), w.view(), offsets.vector()}, dy.matrix(),
          ds::grouped_gemm_gradients{dx.matrix(), dw.view()});
      bool right = dw.unchanged();
      for (float e : joined(y.values(), dx.values())) right = right && e == 0;
      support::expect_true(op, "zero " + c.text(), right, "an empty sum is not zero");
    }
  });
  facets(op, {"zero"});
}

TEST_CASE("grouped_gemm: errors name the sizes") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  float data[256] = {};
  std::int32_t starts[] = {0, 2, 4, 4};
  const ds::view<std::int32_t, ds::host, ds::dyn> offsets(starts, {3}), longer(starts, {4});
  on_both([&](const auto& b) {
    using ds::error_code;
    const matrix x(data, {4, 3}), y(data, {4, 5}), wrong(data, {2, 2});
    const cube w(data, {2, 3, 5});
    const auto& run = ds::ops::grouped_gemm;
    CHECK_ERROR(error_code::shape_mismatch, "grouped_gemm: w[2, 3, 5]", "expected 2",
                run(b, wrong, w, offsets, y));
    CHECK_ERROR(error_code::shape_mismatch, "grouped_gemm: offsets[4]", "expected 3",
                run(b, x, w, longer, y));
    CHECK_ERROR(error_code::shape_mismatch, "grouped_gemm: y[2, 2]", "expected 4",
                run(b, x, w, offsets, wrong));
    CHECK_ERROR(error_code::invalid_argument, "grouped_gemm: w[2, 3, 5]", "null",
                run(b, x, cube(nullptr, {2, 3, 5}), offsets, y));
    const auto& back = ds::ops::grouped_gemm_backward;
    const ds::grouped_gemm_inputs in{x, w, offsets};
    const auto with = [&](const cube& dw) { return ds::grouped_gemm_gradients{x, dw}; };
    CHECK_ERROR(error_code::shape_mismatch, "dw[1, 3, 5]", "expected 2",
                back(b, in, y, with(cube(data, {1, 3, 5}))));
    CHECK_ERROR(error_code::shape_mismatch, "dw[2, 4, 5]", "expected 3",
                back(b, in, y, with(cube(data, {2, 4, 5}))));
    CHECK_ERROR(error_code::shape_mismatch, "dw[2, 3, 4]", "expected 5",
                back(b, in, y, with(cube(data, {2, 3, 4}))));
    CHECK_ERROR(error_code::invalid_argument, "dw[2, 3, 5]", "null",
                back(b, in, y, with(cube(nullptr, {2, 3, 5}))));
    CHECK_ERROR(error_code::invalid_argument, "x[4, 3]", "null",
                back(b, ds::grouped_gemm_inputs{matrix(nullptr, {4, 3}), w, offsets}, y, with(w)));
  });
  facets(op, {"errors"});
}

TEST_CASE("grouped_gemm: offsets that name rows which are not there are refused") {
  if constexpr (ds::RunsKernels<ds::cpu>) return support::skip("a device trusts them");
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  float data[256] = {};
  const matrix x(data, {4, 3}), y(data + 32, {4, 5}), bias(data, {2, 5});
  const cube w(data + 64, {2, 3, 5}), dw(data + 128, {2, 3, 5});
  on_both([&](const auto& b) {
    const auto refused = [&](std::vector<std::int32_t> starts, const char* text) {
      const ds::view<std::int32_t, ds::host, ds::dyn> offsets(starts.data(), {3});
      constexpr auto code = ds::error_code::offsets;
      CHECK_ERROR(code, "grouped_gemm: offsets", text, ds::ops::grouped_gemm(b, x, w, offsets, y));
      CHECK_ERROR(code, "grouped_gemm_backward: offsets", text,
                  ds::ops::grouped_gemm_backward(b, ds::grouped_gemm_inputs{x, w, offsets}, y,
                                                 ds::grouped_gemm_gradients{x, dw}));
      CHECK_ERROR(code, "add_expert_bias: offsets", text,
                  ds::ops::add_expert_bias(b, bias, offsets, y));
      CHECK_ERROR(code, "add_expert_sums: offsets", text,
                  ds::ops::add_expert_sums(b, y, offsets, bias));
    };
    refused({0, 2, 5}, "[2] is 5 after 2 for 4 rows");
    refused({0, 3, 2}, "[2] is 2 after 3");
    refused({1, 2, 4}, "[0] is 1");
    refused({-1, 2, 4}, "[0] is -1");
  });
}
