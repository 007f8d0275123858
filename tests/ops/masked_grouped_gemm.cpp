// SPDX-License-Identifier: Apache-2.0
// masked_grouped_gemm and its backward against the oracle: experts with all, some and no rows; rows
// that are not there hold NaN, change nothing and keep it; the bits of grouped_gemm; gradients by
// differences; counts outside their range; errors.
#include "ops/masked_grouped_gemm_case.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/cpu/mixed_gemm.hpp"
#include "deepseek/backend/reference/masked_grouped_gemm.hpp"

using namespace masked_gemm_test;

namespace {

std::vector<masked_case> cases() {
  std::vector<masked_case> all;
  for (const bool turned : {false, true}) {
    all.push_back({1, 5, 7, {1, 0, 1}, turned});
    all.push_back({4, 16, 24, {4, 0, 1, 3, 0}, turned, 3});
    all.push_back({9, 33, 17, {0, 9, 2}, turned});
    all.push_back({70, 64, 72, {70, 1, 0, 66}, turned, 8});
    // Whole packets of 16 bytes: what tensor cores of a device take, in each of their kernels.
    all.push_back({2, 160, 72, {2, 0, 1}, turned});
    all.push_back({24, 160, 72, {24, 5, 0}, turned});
    all.push_back({150, 160, 136, {150, 0, 129}, turned});
  }
  return all;
}

}  // namespace

TEST_CASE("masked_grouped_gemm: capacities, counts, orders and types") {
  for (const masked_case& c : cases()) {
    everywhere(op, c.text(), [&](const auto& b, auto zero) {
      using T = decltype(zero);
      return joined(check_forward<T>(b, c), check_backward<T>(b, c));
    });
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("masked_grouped_gemm: with full places it is grouped_gemm, bit for bit") {
  const masked_case c{6, 48, 40, {6, 6, 6}};
  on_both([&](const auto& b) {
    const auto got = check_forward<float>(b, c);
    places<float> x(c, c.in, drawn_for<float>(c, 18 * c.in, " x")), y(c, c.out);
    matrices<float> w(c, drawn_for<float>(c, 3 * c.in * c.out, " w"));
    using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
    const std::int32_t starts[] = {0, 6, 12, 18};
    const ds::view<const std::int32_t, ds::host, ds::dyn> offsets(starts, {4});
    ds::ops::grouped_gemm(b, matrix(x.view().data(), {18, 48}), w.view(), offsets,
                          matrix(y.view().data(), {18, 40}));
    CHECK(support::same_bits(got, y.values()));
  });
}

TEST_CASE("masked_grouped_gemm: gradients by differences; a second backward adds as much again") {
  on_both([](const auto& b) {
    const masked_case c{4, 3, 5, {4, 0, 2}};
    const reals x = drawn_for<double>(c, 18, " x"), w = drawn_for<double>(c, 45, " w");
    const reals weights = support::loss_weights(30);
    const ds::view<const std::int32_t, ds::host, ds::dyn> counts(c.counts.data(), {3});
    places<double> from(c, 3, x), dy(c, 5, weights), dx(c, 3);
    matrices<double> stack(c, w), dw(c, reals(45));
    const auto once = [&] {
      ds::ops::masked_grouped_gemm_backward(
          b, ds::masked_grouped_gemm_inputs{from.view(), stack.view(), counts}, dy.view(),
          ds::grouped_gemm_gradients{dx.view(), dw.view()});
    };
    once();
    const auto loss = [&](const reals& xs, const reals& ws) {
      places<double> in(c, 3, xs), y(c, 5);
      matrices<double> moved(c, ws);
      ds::ops::masked_grouped_gemm(b, in.view(), moved.view(), counts, y.view());
      return support::weighted_sum(weights, y.values());
    };
    support::expect_gradient(
        op, "dx",
        support::check_gradient([&](const reals& at) { return loss(at, w); }, x, dx.values()));
    support::expect_gradient(
        op, "dw",
        support::check_gradient([&](const reals& at) { return loss(x, at); }, w, dw.values()));
    auto doubled = dw.values();
    for (double& e : doubled) e += e;
    once();
    CHECK(support::same_bits(dw.values(), doubled));
  });
}

TEST_CASE("masked_grouped_gemm: no experts, no places, empty sums") {
  on_both([](const auto& b) {
    for (const masked_case& c : {masked_case{3, 2, 4, {}}, masked_case{0, 2, 4, {0, 0}},
                                 masked_case{3, 2, 4, {0, 0}}, masked_case{3, 0, 4, {3, 1}}}) {
      const auto y = check_forward<float>(b, c);
      bool zeros = true;
      for (const float e : y) zeros = zeros && e == 0;
      support::expect_true(op, "zero " + c.text(), zeros, "an empty sum is not zero");
      check_backward<float>(b, c);
    }
  });
  facets(op, {"zero"});
}

TEST_CASE("masked_grouped_gemm: a count outside its range; nothing is written") {
  on_both([](const auto& b) {
    for (const std::int32_t bad : {5, -1}) {
      const masked_case c{4, 8, 8, {4, 2, 4}};
      const std::int32_t wrong[] = {4, bad, 4};
      const ds::view<const std::int32_t, ds::host, ds::dyn> counts(wrong, {3});
      places<float> x(c, 8, reals(80, 1.0)), y(c, 8), dx(c, 8);
      matrices<float> w(c, reals(192, 1.0)), dw(c, reals(192, 0.5));
      const std::string said = "counts[1] is " + std::to_string(bad);
      CHECK_ERROR(ds::error_code::index_range, said.c_str(), "outside 0 .. 4",
                  ds::ops::masked_grouped_gemm(b, x.view(), w.view(), counts, y.view()));
      CHECK_ERROR(ds::error_code::index_range, said.c_str(), "outside 0 .. 4",
                  ds::ops::masked_grouped_gemm_backward(
                      b, ds::masked_grouped_gemm_inputs{x.view(), w.view(), counts}, x.view(),
                      ds::grouped_gemm_gradients{dx.view(), dw.view()}));
      CHECK((y.unchanged() && dx.unchanged() && dw.unchanged()));
    }
  });
}

TEST_CASE("masked_grouped_gemm: errors name the sizes") {
  using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  float data[256] = {};
  std::int32_t rows[] = {1, 1, 1};
  const ds::view<std::int32_t, ds::host, ds::dyn> counts(rows, {2}), longer(rows, {3});
  on_both([&](const auto& b) {
    using ds::error_code;
    const cube x(data, {2, 4, 3}), w(data + 64, {2, 3, 5}), y(data + 128, {2, 4, 5});
    const auto& run = ds::ops::masked_grouped_gemm;
    CHECK_ERROR(error_code::shape_mismatch, "w[3, 3, 5]", "expected 2",
                run(b, x, cube(data + 64, {3, 3, 5}), counts, y));
    CHECK_ERROR(error_code::shape_mismatch, "w[2, 4, 5]", "expected 3",
                run(b, x, cube(data + 64, {2, 4, 5}), counts, y));
    CHECK_ERROR(error_code::shape_mismatch, "counts[3]", "expected 2", run(b, x, w, longer, y));
    CHECK_ERROR(error_code::shape_mismatch, "y[2, 3, 5]", "expected 4",
                run(b, x, w, counts, cube(data + 128, {2, 3, 5})));
    CHECK_ERROR(error_code::invalid_argument, "x[2, 4, 3]", "null",
                run(b, cube(nullptr, {2, 4, 3}), w, counts, y));
    CHECK_ERROR(error_code::invalid_argument, "stride 0 is 12",
                run(b, cube(data, {2, 4, 3}, {15, 3, 1}), w, counts, y));
    CHECK_ERROR(error_code::aliasing, "masked_grouped_gemm: x",
                run(b, x, w, counts, cube(data, {2, 4, 5})));
    const auto& back = ds::ops::masked_grouped_gemm_backward;
    const ds::masked_grouped_gemm_inputs in{x, w, counts};
    CHECK_ERROR(error_code::shape_mismatch, "dw[2, 3, 4]", "expected 5",
                back(b, in, y, ds::grouped_gemm_gradients{x, cube(data, {2, 3, 4})}));
    CHECK_ERROR(error_code::shape_mismatch, "x[2, 4, 3]", "expected 3",
                back(b, in, cube(data, {2, 3, 5}), ds::grouped_gemm_gradients{x, w}));
    const cube dx(data + 200, {2, 4, 3});
    CHECK_ERROR(error_code::aliasing, "masked_grouped_gemm_backward: x",
                back(b, in, y, ds::grouped_gemm_gradients{dx, cube(data, {2, 3, 5})}));
    CHECK_ERROR(error_code::aliasing, "masked_grouped_gemm_backward: dy",
                back(b, in, y, ds::grouped_gemm_gradients{dx, cube(data + 128, {2, 3, 5})}));
  });
  facets(op, {"errors"});
}
