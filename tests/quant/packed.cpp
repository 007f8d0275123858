// SPDX-License-Identifier: Apache-2.0
// Packed weights: the layout, what make_weight writes, products with the bits of the plain weights
// for every size, number of threads and segment of experts, panels of another width, errors.
#include "deepseek/deepseek.hpp"

#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <set>

namespace ds = deepseek;
using ds::dyn;
using ds::host;
using ds::index_t;

namespace {

template <class T, index_t... E>
ds::tensor<T, host, E...> drawn(const char* seed) {
  ds::tensor<T, host, E...> t;
  support::numbers from(seed);
  for (index_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<T>(from.normal());
  return t;
}

template <class T>
ds::tensor<T, host, dyn, dyn> drawn(index_t rows, index_t width, const char* seed) {
  ds::tensor<T, host, dyn, dyn> t({rows, width});
  support::numbers from(seed);
  for (index_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<T>(from.normal());
  return t;
}

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  using T = typename A::value_type;
  return a.size() == b.size() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

template <class B, class S, index_t O, index_t I, class T = float>
using weight_of = typename ds::packed<B>::template weight<T, S, O, I>;

// y = x W^T (+ bias) with plain and with packed weights, on 1, 2 and 3 threads.
template <class T, index_t O, index_t I>
void expect_bits_of_plain() {
  const auto w = drawn<T, O, I>("w");
  const auto bias = drawn<T, O>("bias");
  weight_of<ds::cpu, host, O, I, T> packed;
  ds::make_weight(ds::packed<ds::cpu>{}, w, {}, packed);
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b{{.threads = threads}};
    for (const index_t m : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 25, 70}) {
      const auto x = drawn<T>(m, I, "x");
      ds::tensor<T, host, dyn, dyn> want({m, O}), y({m, O});
      ds::ops::gemm(b, x, transposed(w.view()), want, ds::gemm_epilogue{bias.view()});
      ds::ops::weight_gemm(b, x, packed.operand(), y, bias);
      CHECK_MESSAGE(same_bits(want, y), m << " " << O << " " << I << " " << threads);
      ds::ops::gemm(b, x, transposed(w.view()), want);
      ds::ops::weight_gemm(b, x, packed.operand(), y);
      CHECK_MESSAGE(same_bits(want, y), m << " " << O << " " << I << " " << threads);
    }
  }
}

}  // namespace

TEST_CASE("layout: every weight has a place of its own") {
  for (const ds::packed_layout at :
       {ds::packed_layout{100, 7, 48}, {48, 3, 48}, {5, 9, 1}, {100, 7, 48, 2}, {3, 1, 16, 2}}) {
    std::set<index_t> seen;
    for (index_t n = 0; n < at.n; ++n) {
      for (index_t k = 0; k < at.k; ++k) seen.insert(at.at(n, k));
    }
    CHECK(static_cast<index_t>(seen.size()) == at.n * at.k);
    CHECK((*seen.begin() == 0 && *seen.rbegin() < at.size()));
  }
  CHECK(std::string(ds::panels_name<48>::text.data()) == "panels_of_48");
  CHECK(std::string(ds::panels_name<6>::text.data()) == "panels_of_6");
  CHECK(std::string(ds::panels_name<100>::text.data()) == "panels_of_100");
  CHECK(std::string(ds::panels_name<48, 2>::text.data()) == "panels_of_48_by_2");
}

TEST_CASE("what is stored is what was given, zeros beside it") {
  auto w = drawn<float, 50, 7>("w");
  w.data()[3] = NAN, w.data()[9] = INFINITY;
  weight_of<ds::cpu, host, 50, 7> packed;
  std::fill_n(packed.panels.data(), packed.panels.size(), 3.0F);
  ds::make_weight(ds::packed<ds::cpu>{}, w, {}, packed);
  const auto seen = packed.operand().expert(0);
  index_t differ = 0, zeros = 0;
  for (index_t n = 0; n < 50; ++n) {
    for (index_t k = 0; k < 7; ++k) {
      differ += std::memcmp(&seen.panels[packed.layout.at(n, k)], &w.data()[n * 7 + k], 4) != 0;
    }
  }
  for (index_t i = 0; i < packed.panels.size(); ++i) zeros += packed.panels.data()[i] == 0;
  CHECK(differ == 0);
  CHECK(zeros == packed.layout.size() - 50 * 7);
}

TEST_CASE_TEMPLATE("products have the bits of plain weights", T, float, double, ds::bf16, ds::f16) {
  expect_bits_of_plain<T, 1, 1>();
  expect_bits_of_plain<T, 47, 33>();
  expect_bits_of_plain<T, 130, 300>();
  expect_bits_of_plain<T, 96, 1100>();
}

TEST_CASE_TEMPLATE("experts: each row meets the weight of its own", T, float, ds::bf16, ds::f16) {
  constexpr index_t experts = 4, rows = 29, n = 70, k = 300;
  const std::int32_t plan[] = {0, 1, 1, 12, rows};
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {experts + 1});
  const auto w = drawn<T, experts, n, k>("w");
  weight_of<ds::cpu, ds::stacked<experts, host>, n, k, T> packed;
  ds::make_weight(ds::packed<ds::cpu>{}, w, {}, packed);
  const auto x = drawn<T, rows, k>("x");
  for (const int threads : {1, 2}) {
    const ds::cpu b{{.threads = threads}};
    ds::tensor<T, host, rows, n> y, want;
    ds::ops::grouped_weight_gemm(b, x, packed.operand(), offsets, y);
    ds::ops::grouped_gemm(b, x, transposed(w.view()), offsets, want);
    CHECK(same_bits(y, want));
  }
}

TEST_CASE("panels of another width, strided results and other types take the plain loops") {
  const ds::cpu b;
  const auto w = drawn<float, 20, 33>("w");
  const auto x = drawn<float, 5, 33>("x");
  ds::tensor<float, host, 5, 20> want, y;
  ds::ops::gemm(ds::reference{}, x, transposed(w.view()), want);
  weight_of<ds::reference, host, 20, 33> narrow;
  ds::make_weight(ds::packed<ds::reference>{}, w, {}, narrow);
  CHECK(narrow.layout.columns == 1);
  ds::ops::weight_gemm(b, x, narrow.operand(), y);
  CHECK(same_bits(y, want));

  weight_of<ds::cpu, host, 20, 33> packed;
  ds::make_weight(ds::packed<ds::cpu>{}, w, {}, packed);
  ds::tensor<float, host, 20, 5> turned;
  ds::ops::weight_gemm(b, x, packed.operand(), transposed(turned.view()));
  for (index_t i = 0; i < 100; ++i) CHECK(turned.view()(i / 5, i % 5) == want.view()(i % 5, i / 5));

  // Panels of bf16 for activations in float.
  const auto half = drawn<ds::bf16, 20, 33>("w");
  weight_of<ds::cpu, host, 20, 33, ds::bf16> half_packed;
  ds::make_weight(ds::packed<ds::cpu>{}, half, {}, half_packed);
  ds::ops::gemm(ds::reference{}, x, transposed(half.view()), want);
  ds::ops::weight_gemm(b, x, half_packed.operand(), y);
  CHECK(same_bits(y, want));
}

TEST_CASE("errors") {
  const ds::cpu b;
  weight_of<ds::cpu, host, 20, 33> packed;
  const auto w = drawn<float, 20, 33>("w");
  const auto x = drawn<float, 5, 33>("x");
  ds::tensor<float, host, 5, 20> y;
  ds::tensor<float, host, 5, 21> wide;
  CHECK_ERROR(ds::error_code::shape_mismatch, "weight_gemm",
              ds::ops::weight_gemm(b, x, packed.operand(), wide));
  auto odd = packed.operand();
  odd.layout.columns = 0;
  CHECK_ERROR(ds::error_code::invalid_argument, "panels of 0", ds::ops::weight_gemm(b, x, odd, y));
  odd.layout.columns = 17;
  CHECK_ERROR(ds::error_code::shape_mismatch, "weight_gemm", ds::ops::weight_gemm(b, x, odd, y));
  CHECK_ERROR(ds::error_code::index_range, "expert 1",
              ds::make_expert_weight(ds::packed<ds::cpu>{}, w.view(), {}, packed, 1));
}
