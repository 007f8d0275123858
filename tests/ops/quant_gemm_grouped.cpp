// SPDX-License-Identifier: Apache-2.0
// grouped_quant_gemm against the oracle, quant_gemm on other element types on the cpu, rows alone,
// and what both ops refuse.
#include "deepseek/quant/int8_weight.hpp"
#include "ops/quant_gemm_case.hpp"
#include "oracle/golden.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

using namespace quant_test;

namespace {

// Rows of each expert: none, one, many.
const std::vector<std::vector<std::int32_t>> plans = {
    {0, 5}, {0, 0, 5}, {0, 1, 2, 9}, {0, 0, 0, 0}, {0, 30, 30, 31, 64}, {0, 200, 203}};

template <class T, class B>
void run_grouped(const B& b, const char* type) {
  for (const auto& offsets : plans) {
    for (ds::index_t n : {1, 31, 33, 96}) {
      for (ds::index_t k : {3, 64}) {
        for (int range : {0, 1, 2}) {
          const auto how = static_cast<layout>((n + k + range) % 3);
          const setting c{{offsets.back(), n, k},
                          static_cast<ds::activation_range>(range),
                          how,
                          how == layout::scattered ? layout::padded : layout::scattered};
          const std::string name = c.text(type) + support::text(" experts", offsets.size() - 1);
          const std::string problem = problem_of<T>(b, c, name, offsets);
          support::expect_true("grouped_quant_gemm", name, problem.empty(), problem);
        }
      }
    }
  }
}

struct small_case {
  support::numbers from{"small"};
  weights w{4, 6, from};
  matrix<float> x{3, 6, layout::dense}, y{3, 4, layout::dense};
  small_case() {
    for (ds::index_t i = 0; i < 18; ++i) x.view()(i / 6, i % 6) = static_cast<float>(i) - 9;
    w.x_scale = 0.1F;
  }
};

}  // namespace

TEST_CASE("grouped") {
  const ds::reference r;
  run_grouped<float>(r, "f32");
  run_grouped<ds::bf16>(r, "bf16");
  for (int threads : {1, 2, 3}) {
    ds::cpu b{{.threads = threads}};
    b.workspace().fill_with(static_cast<unsigned char>(0xff));
    run_grouped<float>(b, "f32");
  }
  for (const char* facet : {"forward", "strides", "zero"}) {
    support::facet("grouped_quant_gemm", facet);
  }
  support::not_applicable("grouped_quant_gemm", "gradient");
}

TEST_CASE("grouped: experts that are cut into several tasks each") {
  ds::cpu b{{.threads = 3}};
  for (const std::vector<std::int32_t>& offsets :
       {std::vector<std::int32_t>{0, 20, 20, 50}, {0, 3, 210, 240}}) {
    const setting c{{offsets.back(), 300, 64}};
    const std::string name = c.text("f32"), problem = problem_of<float>(b, c, name, offsets);
    support::expect_true("grouped_quant_gemm", name, problem.empty(), problem);
  }
}

TEST_CASE_TEMPLATE("golden values", B, ds::reference, ds::cpu) {
  namespace g = oracle::golden::int8;
  const B b{};
  ds::tensor<float, ds::host, 1, 4> plain, x;
  for (ds::index_t i = 0; i < 4; ++i) {
    plain.data()[i] = static_cast<float>(g::w[size(i)]);
    x.data()[i] = static_cast<float>(g::x[size(i)]);
  }
  ds::w8a8_dynamic::weight<float, ds::host, 1, 4> w;
  ds::make_weight(ds::w8a8_dynamic{}, plain, {}, w);
  ds::tensor<float, ds::host, 1, 1> y;
  ds::ops::quant_gemm(b, x, w.operand(), y);
  CHECK(std::fabs(static_cast<double>(y.data()[0]) - g::y) < 1e-7);
}

TEST_CASE("cpu: types without kernels take the loops") {
  ds::cpu b{{.threads = 2}};
  for (const setting& c : settings(25)) {
    const std::string name = c.text("f16 or f64 on cpu");
    const std::string wide = problem_of<double>(b, c, name);
    support::expect_true("quant_gemm", name, wide.empty(), wide);
    const std::string half = problem_of<ds::f16>(b, c, name);
    support::expect_true("quant_gemm", name, half.empty(), half);
  }
}

TEST_CASE("a row of a batch equals the row alone, but for the range of the call") {
  ds::cpu b{{.threads = 2}};
  support::numbers from("rows");
  weights w(50, 70, from);
  w.x_scale = 0.02F, w.x_zero = 90;
  matrix<float> x(20, 70, layout::dense), y(20, 50, layout::dense), one(1, 50, layout::dense);
  for (ds::index_t i = 0; i < 20 * 70; ++i) {
    x.view()(i / 70, i % 70) = static_cast<float>(from.normal() * static_cast<double>(1 + i / 70));
  }
  for (int r : {0, 1, 2}) {
    const auto range = static_cast<ds::activation_range>(r);
    ds::ops::quant_gemm(b, x.view(), w.operand(range), y.view());
    int differ = 0;
    for (ds::index_t m = 0; m < 20; ++m) {
      ds::ops::quant_gemm(b, ds::rows(x.view(), m, 1), w.operand(range), one.view());
      differ += std::memcmp(&one.view()(0, 0), &y.view()(m, 0), 50 * sizeof(float)) != 0;
    }
    CHECK((differ == 0) == (range != ds::activation_range::per_call));
  }
}

TEST_CASE_TEMPLATE("what is refused", B, ds::reference, ds::cpu) {
  const B b{};
  small_case c;
  const auto w = c.w.operand(ds::activation_range::per_token);
  using code = ds::error_code;
  CHECK_ERROR(code::shape_mismatch, "w[4, 6]", "x[.., 5]",
              ds::ops::quant_gemm(b, matrix<float>(3, 5, layout::dense).view(), w, c.y.view()));
  CHECK_ERROR(code::shape_mismatch, "y[2, 4]", "expected 3",
              ds::ops::quant_gemm(b, c.x.view(), w, matrix<float>(2, 4, layout::dense).view()));
  CHECK_ERROR(code::shape_mismatch, "y[3, 5]", "expected 4",
              ds::ops::quant_gemm(b, c.x.view(), w, matrix<float>(3, 5, layout::dense).view()));
  const float three[] = {1, 2, 3};
  const ds::view<const float, ds::host, ds::dyn> bias(three, {3});
  CHECK_ERROR(code::shape_mismatch, "bias[3]", "expected 4",
              ds::ops::quant_gemm(b, c.x.view(), w, c.y.view(), bias));
  const std::int32_t offsets[] = {0, 1, 3};
  const ds::view<const std::int32_t, ds::host, ds::dyn> two(offsets, {3});
  CHECK_ERROR(code::shape_mismatch, "offsets[3]", "expected 2",
              ds::ops::grouped_quant_gemm(b, c.x.view(), w, two, c.y.view()));
  support::numbers from("experts");
  weights many(4, 6, from, 2);
  CHECK_ERROR(code::shape_mismatch, "2 experts",
              ds::ops::quant_gemm(b, c.x.view(), many.operand(w.range), c.y.view()));
  auto cut = w;
  cut.q = {w.q.data(), {1, 17}};
  CHECK_ERROR(code::shape_mismatch, "w.q[1, 17]",
              ds::ops::quant_gemm(b, c.x.view(), cut, c.y.view()));
  weights deep(1, ds::int8_layout::deepest + 1, from);
  CHECK_ERROR(
      code::invalid_argument, "66312",
      ds::ops::quant_gemm(b, matrix<float>(1, deep.at.k, layout::dense).view(),
                          deep.operand(w.range), matrix<float>(1, 1, layout::dense).view()));
  support::facet("quant_gemm", "errors");
  support::facet("grouped_quant_gemm", "errors");
}

TEST_CASE_TEMPLATE("numbers that are none", B, ds::reference, ds::cpu) {
  const B b{};
  small_case c;
  using code = ds::error_code;
  using ds::activation_range;
  c.x.view()(1, 4) = std::nanf("");
  for (auto range :
       {activation_range::observed, activation_range::per_call, activation_range::per_token}) {
    CHECK_ERROR(code::nonfinite, "x[1, 4]", "nan",
                ds::ops::quant_gemm(b, c.x.view(), c.w.operand(range), c.y.view()));
    CHECK(std::isnan(c.y.view()(0, 0)));  // still poison
  }
  c.x.view()(1, 4) = INFINITY;
  for (auto range : {activation_range::per_call, activation_range::per_token}) {
    CHECK_ERROR(code::nonfinite, "x[1, 4]", "inf",
                ds::ops::quant_gemm(b, c.x.view(), c.w.operand(range), c.y.view()));
  }
  ds::ops::quant_gemm(b, c.x.view(), c.w.operand(activation_range::observed), c.y.view());
  const float saturated = c.y.view()(1, 0);
  c.x.view()(1, 4) = 25.5F;
  ds::ops::quant_gemm(b, c.x.view(), c.w.operand(activation_range::observed), c.y.view());
  CHECK(c.y.view()(1, 0) == saturated);
  for (float scale : {0.0F, -1.0F, std::nanf(""), INFINITY}) {
    c.w.x_scale = scale;
    CHECK_ERROR(
        code::invalid_argument, "scale is", "quantize or load",
        ds::ops::quant_gemm(b, c.x.view(), c.w.operand(activation_range::observed), c.y.view()));
  }
}

// 255 * 127 twice in a pair is beyond 16 bits: instructions that add pairs of products there would
// saturate.
TEST_CASE_TEMPLATE("the largest bytes at every step are summed exactly", B, ds::reference,
                   ds::cpu) {
  const B b{};
  for (ds::index_t k : {2, 4, 64, 1023}) {
    for (std::int8_t code : {std::int8_t(127), std::int8_t(-127)}) {
      const ds::int8_layout at{33, k};
      std::vector<std::int8_t> q(size(at.size()));
      for (ds::index_t n = 0; n < 33; ++n) {
        for (ds::index_t i = 0; i < k; ++i) q[size(at.at(n, i))] = code;
      }
      const std::vector<float> scale(33, 1.0F);
      const std::vector<std::int32_t> sum(33, static_cast<std::int32_t>(k) * code);
      const float x_scale = 1;
      const std::int32_t x_zero = 0;
      const ds::int8_operand<ds::host> w{
          {q.data(), {1, at.size()}},     {scale.data(), {1, 33}}, {sum.data(), {1, 33}}, k,
          ds::activation_range::observed, {&x_scale, {1}},         {&x_zero, {1}}};
      for (ds::index_t m : {1, 13}) {
        ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({m, k}), y({m, 33});
        for (ds::index_t i = 0; i < x.size(); ++i) x.data()[i] = 255;
        ds::ops::quant_gemm(b, x, w, y);
        for (ds::index_t i = 0; i < y.size(); ++i) {
          CHECK(y.data()[i] == static_cast<float>(255 * k * code));
        }
      }
    }
  }
}

// Rows of padding would stretch the range that a call takes from its inputs.
TEST_CASE_TEMPLATE("rows of padding do not enter the range of a call", B, ds::reference, ds::cpu) {
  const B b{};
  support::numbers from("padding");
  const weights w(24, 40, from, 2);
  ds::tensor<float, ds::host, 12, 40> x;
  for (ds::index_t i = 0; i < 9 * 40; ++i) x.data()[i] = static_cast<float>(from.normal());
  const std::int32_t bounds[] = {0, 4, 9};
  const ds::view<const std::int32_t, ds::host, ds::dyn> offsets(bounds, {3});
  for (auto range : {ds::activation_range::per_call, ds::activation_range::per_token}) {
    ds::tensor<float, ds::host, 9, 24> want, dense;
    const auto real = ds::rows(x.view(), 0, 9);
    ds::ops::grouped_quant_gemm(b, real, w.operand(range), offsets, want);
    auto first = w.operand(range).expert(0);
    ds::ops::quant_gemm(b, real, first, dense);
    for (float filling : {1e30F, std::nanf("")}) {
      for (ds::index_t i = 9 * 40; i < x.size(); ++i) x.data()[i] = filling;
      ds::tensor<float, ds::host, 12, 24> y;
      for (ds::index_t i = 0; i < y.size(); ++i) y.data()[i] = -7;
      ds::ops::grouped_quant_gemm(b, x, w.operand(range), offsets, y);
      CHECK(std::memcmp(y.data(), want.data(), 9 * 24 * sizeof(float)) == 0);
      for (ds::index_t i = 9 * 24; i < y.size(); ++i) CHECK(y.data()[i] == -7);
      ds::tensor<float, ds::host, 9, 24> again;
      ds::ops::quant_gemm(b, real, first, again);  // the same memory behind the rows of the call
      CHECK(std::memcmp(again.data(), dense.data(), 9 * 24 * sizeof(float)) == 0);
    }
  }
}
