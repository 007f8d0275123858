// SPDX-License-Identifier: Apache-2.0
// weight_gemm on weights of any format against the oracle in double on the dequantized weights, and
// on the cpu bit for bit gemm with them as floats. A case type W has name, out, in, value (reals
// [experts, out, in]) and operand(experts).
#pragma once

#include "deepseek/ops/weight_gemm.hpp"

#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/backend/reference/weight_gemm.hpp"
#include "ops/table.hpp"
#include "oracle/gemm.hpp"

namespace weight_test {

using namespace table;
using ds::dyn;
using ds::host;
using ds::index_t;

struct sizes {
  std::size_t m, n, k;
};
enum class biased { no, yes };
struct setting {
  sizes s;
  layout x = layout::contiguous, y = layout::contiguous;
  biased bias = biased::no;
  std::string text(const char* what) const {
    return support::text("format", what, "m", s.m, "n", s.n, "k", s.k, "x", static_cast<int>(x),
                         "y", static_cast<int>(y), "bias", bias == biased::yes);
  }
};

inline std::vector<setting> settings() {
  const std::size_t m[] = {0, 1, 2, 3, 4, 7, 8, 9, 13, 33},
                    n[] = {0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200},
                    k[] = {1, 3, 4, 7, 8, 9, 31, 32, 33, 63, 127, 128, 129, 255, 257, 300};
  std::vector<setting> out;
  for (const auto& i : support::pairwise({10, 13, 16, 4, 3, 2})) {
    out.push_back({{m[i[0]], n[i[1]], k[i[2]]},
                   static_cast<layout>(i[3]),
                   static_cast<layout>(i[4]),
                   static_cast<biased>(i[5])});
  }
  return out;
}

template <class T>
struct io {
  reals x, bias;
  sheet<T> in, add, y;
  io(const setting& c, const std::string& name)
      : x(drawn_as(c.s.m * c.s.k, name + "x")),
        bias(drawn_as(c.s.n, name + "bias")),
        in(c.s.m, c.s.k, c.x, x),
        add(1, c.s.n, layout::offset, bias),
        y(c.s.m, c.s.n, c.y) {}
  static reals drawn_as(std::size_t n, const std::string& name) {
    support::numbers from(name);
    return support::rounded_to<T>(support::draw(support::values::normal, n, from));
  }
};

template <class T, class B, class W>
std::vector<T> run(const B& b, const setting& c, const W& w, const std::string& name) {
  io<T> data(c, name);
  if (c.bias == biased::yes) {
    ds::ops::weight_gemm(b, data.in.matrix(), w.operand(), data.y.matrix(), data.add.vector());
  } else {
    ds::ops::weight_gemm(b, data.in.matrix(), w.operand(), data.y.matrix());
  }
  CHECK_MESSAGE((data.in.unchanged() && data.add.unchanged() && data.y.clean()),
                "an operand or memory around the result was written: ", name);
  reals want = oracle::gemm(
      data.x, w.value, {c.s.m, c.s.n, c.s.k, oracle::stored::plain, oracle::stored::transposed});
  reals magnitude = oracle::gemm_magnitude(
      data.x, w.value, {c.s.m, c.s.n, c.s.k, oracle::stored::plain, oracle::stored::transposed});
  for (std::size_t i = 0; c.bias == biased::yes && i < want.size(); ++i) {
    want[i] += data.bias[i % c.s.n];
    magnitude[i] += std::fabs(data.bias[i % c.s.n]);
  }
  auto allowed = support::gemm_limits(type_of<T>, c.s.k + 1);
  if (type_of<T> == ds::dtype::f64) {
    allowed.relative += static_cast<double>(c.s.k) * 0x1p-53;
    allowed.c += static_cast<double>(c.s.k);
  }
  judge("weight_gemm", std::string(b.name()) + " " + name, allowed, want, data.y.values(),
        std::max<std::size_t>(c.s.n, 1), magnitude);
  return data.y.values();
}

// gemm with the weights as floats.
template <class W>
std::vector<float> run_gemm(const ds::cpu& b, const setting& c, const W& w,
                            const std::string& name) {
  io<float> data(c, name);
  const auto floats = support::as<float>(w.value);
  const ds::view<const float, host, dyn, dyn> weights(
      floats.data(), {static_cast<index_t>(c.s.n), static_cast<index_t>(c.s.k)});
  if (c.bias == biased::yes) {
    ds::ops::gemm(b, data.in.matrix(), ds::transposed(weights), data.y.matrix(),
                  ds::gemm_epilogue{data.add.vector()});
  } else {
    ds::ops::gemm(b, data.in.matrix(), ds::transposed(weights), data.y.matrix());
  }
  return data.y.values();
}

inline const std::vector<ds::cpu>& cpus() {
  static const std::vector<ds::cpu> all = thread_contexts();
  return all;
}

template <class W>
void check(const setting& c) {
  const std::string name = c.text(W::name);
  support::numbers from(name);
  const W w(1, c.s.n, c.s.k, from);
  const ds::reference plain;
  run<float>(plain, c, w, name);
  run<double>(plain, c, w, name);
  run<ds::bf16>(cpus()[0], c, w, name);
  std::vector<float> first;
  for (const ds::cpu& b : cpus()) {
    const auto got = run<float>(b, c, w, name);
    if (&b == &cpus().front()) first = got;
    support::expect_true("weight_gemm", name, support::same_bits(got, first),
                         "the bits depend on the number of threads");
    if constexpr (!ds::RunsKernels<ds::cpu>) {  // a device's gemm has its own order
      support::expect_true("weight_gemm", name, support::same_bits(got, run_gemm(b, c, w, name)),
                           "not the bits of gemm with the weights as floats");
    }
  }
}

// Rows and weights of whole packets of 16 bytes: what tensor cores of a device take, in each of
// their kernels.
template <class W>
void check_sixteen_bits() {
  for (const std::size_t m : {5u, 20u, 40u}) {
    for (const biased bias : {biased::no, biased::yes}) {
      const setting c{{m, 100, 416}, layout::contiguous, layout::padded, bias};
      const std::string name = c.text(W::name);
      support::numbers from(name);
      const W w(1, c.s.n, c.s.k, from);
      run<ds::bf16>(cpus()[0], c, w, name);
      run<ds::f16>(cpus()[0], c, w, name);
    }
  }
}

// Rows of experts are rows alone.
template <class W>
void check_experts() {
  constexpr index_t experts = 4, rows = 37, n = 70, k = 300;
  const std::int32_t plan[] = {0, 1, 1, 12, rows};
  support::numbers from("experts");
  const W w(experts, n, k, from);
  ds::tensor<float, host, rows, k> x;
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {experts + 1});
  ds::tensor<float, host, rows, n> plain_y;
  ds::ops::grouped_weight_gemm(ds::reference{}, x, w.operand(experts), offsets, plain_y);
  for (const ds::cpu& b : cpus()) {
    ds::tensor<float, host, rows, n> y;
    ds::ops::grouped_weight_gemm(b, x, w.operand(experts), offsets, y);
    for (index_t e = 0; e < experts; ++e) {
      auto one = w.operand(experts);
      one.q = ds::rows(one.q, e, 1);
      one.scale = ds::rows(one.scale, e, 1);
      if constexpr (requires { one.zero; }) {
        if (one.zero.data() != nullptr) one.zero = ds::rows(one.zero, e, 1);
      }
      for (index_t r = plan[e]; r < plan[e + 1]; ++r) {
        ds::tensor<float, host, 1, n> alone;
        ds::ops::weight_gemm(b, ds::rows(x.view(), r, 1), one, alone);
        support::expect_true("grouped_weight_gemm", support::text(W::name, r),
                             std::memcmp(alone.data(), y.data() + r * n, n * sizeof(float)) == 0,
                             "a row among experts differs from the row alone");
        for (index_t j = 0; j < n; ++j) {
          CHECK(std::fabs(y.view()(r, j) - plain_y.view()(r, j)) <= 1e-4F);
        }
      }
    }
  }
}

}  // namespace weight_test
