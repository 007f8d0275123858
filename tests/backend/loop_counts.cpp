// SPDX-License-Identifier: Apache-2.0
// Products that no kernel of the cpu takes are counted, those that one takes are not: by element
// types, strides and formats.
#include "deepseek/backend/cpu/fp8_gemm.hpp"
#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/quant/int8_weight.hpp"

#include <doctest/doctest.h>

#include <thread>

namespace ds = deepseek;

namespace {

constexpr ds::index_t m = 3, n = 20, k = 17;

template <class T>
using matrix = ds::tensor<T, ds::host, ds::dyn, ds::dyn>;

// x W^T of these types.
template <class X, class W, class Y>
std::string product(const ds::cpu& b) {
  const matrix<X> x({m, k});
  const matrix<W> w({n, k});
  matrix<Y> y({m, n});
  return ds::implementation_name(b, [&] { ds::ops::gemm(b, x, transposed(w.view()), y); });
}

template <class Format, class T = float>
std::string weighted(const ds::cpu& b) {
  typename Format::template weight<T, ds::host, n, k> w;
  ds::tensor<T, ds::host, n, k> plain;
  for (ds::index_t i = 0; i < plain.size(); ++i) plain.data()[i] = T(0.5F);
  ds::make_weight(Format{}, plain, {}, w);
  const matrix<T> x({m, k});
  matrix<T> y({m, n});
  return ds::implementation_name(b, [&] { ds::ops::weight_gemm(b, x, w.operand(), y); });
}

}  // namespace

TEST_CASE("element types that have kernels, and types that have none") {
  const ds::cpu b{{.threads = 2}};
  CHECK(product<float, float, float>(b) == "kernels");
  CHECK(product<double, double, double>(b) == "kernels");
  CHECK(product<float, ds::bf16, float>(b) == "kernels");
  CHECK(product<ds::bf16, ds::bf16, ds::bf16>(b) == "kernels");
  CHECK(product<ds::bf16, ds::bf16, float>(b) == "kernels");
  CHECK(product<ds::f16, ds::f16, ds::f16>(b) == "kernels");
  CHECK(product<ds::f16, ds::f16, float>(b) == "kernels");
  CHECK(product<float, ds::f16, float>(b) == "loops: gemm 1");
  CHECK(product<float, double, float>(b) == "loops: gemm 1");
  CHECK(product<ds::bf16, float, float>(b) == "loops: gemm 1");
}

TEST_CASE("formats") {
  const ds::cpu b;
  CHECK(weighted<ds::packed<ds::cpu>>(b) == "kernels");
  CHECK(weighted<ds::packed<ds::cpu>, ds::bf16>(b) == "kernels");
  CHECK(weighted<ds::packed<ds::cpu>, ds::f16>(b) == "kernels");
  CHECK(weighted<ds::packed<ds::reference>>(b) == "loops: weight_gemm 1");
  CHECK(weighted<ds::int4_groups<32>>(b) == "kernels");
  CHECK(weighted<ds::fp8_blocks>(b) == "kernels");
  CHECK(weighted<ds::int4_groups<32>, double>(b) == "loops: weight_gemm 1");
}

TEST_CASE("strides, integers, the reference itself, counts of several calls and threads") {
  const ds::cpu b;
  const matrix<float> x({m, k}), w({n, k});
  matrix<float> turned({n, m});
  const ds::tensor<float, ds::host, n> bias;
  const auto into_columns = [&] {
    ds::ops::gemm(b, x, transposed(w.view()), transposed(turned.view()),
                  ds::gemm_epilogue{bias.view()});
  };
  CHECK(ds::implementation_name(b, into_columns) == "loops: gemm 1");
  CHECK(ds::implementation_name(ds::reference{}, [] {}) == "loops");
  ds::w8a8_per_token::weight<float, ds::host, n, k> q;
  ds::make_weight(ds::w8a8_per_token{}, ds::tensor<float, ds::host, n, k>{}, {}, q);
  matrix<float> y({m, n});
  const auto integers = [&](const auto& to) {
    return ds::implementation_name(b, [&] { ds::ops::quant_gemm(b, x, q.operand(), to); });
  };
  CHECK(integers(y.view()) == "kernels");
  CHECK(integers(transposed(turned.view())) == "loops: quant_gemm 1");

  b.loops().clear();
  into_columns(), into_columns();
  CHECK(b.loops().text() == "gemm 2");
  CHECK(b.loops().calls("gemm") == 2);
  CHECK(b.loops().calls("attention") == 0);
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) b.runs_loops("other");
  });
  for (int i = 0; i < 1000; ++i) b.runs_loops(ds::gemm_op::name);
  other.join();
  CHECK(b.loops().calls() == 2002);
}
