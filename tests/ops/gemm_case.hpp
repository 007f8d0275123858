// SPDX-License-Identifier: Apache-2.0
// One product for tests: sizes, the layout of each operand, what follows the product; its inputs
// from the text of the case, what it must give, and how it is run in guarded memory.
#pragma once

#include "deepseek/ops/gemm.hpp"

#include "deepseek/backend/cpu/narrow_gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "ops/table.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"

namespace gemm_test {

using namespace table;

enum class biased { no, yes };

struct gemm_case {
  std::size_t m = 0, n = 0, k = 0;
  layout a = layout::contiguous, b = layout::contiguous, c = layout::contiguous;
  support::values kind = support::values::normal;
  ds::activation act = ds::activation::none;
  ds::update how = ds::update::write;
  biased bias = biased::no;

  std::string text() const {
    return support::text("m", m, "n", n, "k", k, "a", static_cast<int>(a), "b", static_cast<int>(b),
                         "c", static_cast<int>(c), "act", static_cast<int>(act), "add",
                         how == ds::update::add, "bias", bias == biased::yes, "values",
                         support::to_string(kind));
  }
  oracle::gemm_shape shape() const { return {m, n, k}; }
};

// All numbers as T holds them. The second factor is normal: the case's values are in the first.
struct operands {
  reals a, b, bias, c;
};
template <class T>
operands draw(const gemm_case& g) {
  support::numbers from(g.text());
  const auto some = [&](support::values kind, std::size_t n) {
    return support::rounded_to<T>(support::draw(kind, n, from));
  };
  const auto plain =
      g.kind == support::values::integer ? support::values::integer : support::values::normal;
  return {some(g.kind, g.m * g.k), some(plain, g.k * g.n), some(plain, g.n),
          some(plain, g.m * g.n)};
}

inline double function(ds::activation act, double x) {
  switch (act) {
    case ds::activation::relu:
      return oracle::relu(x);
    case ds::activation::silu:
      return oracle::silu(x);
    case ds::activation::gelu:
      return oracle::gelu(x);
    case ds::activation::none:
      break;
  }
  return x;
}

struct answer {
  reals value, magnitude;
};
// The slopes of the functions are at most 1.13: twice the magnitude covers what they amplify.
inline answer expected(const gemm_case& g, const operands& in) {
  answer out{oracle::gemm(in.a, in.b, g.shape()), oracle::gemm_magnitude(in.a, in.b, g.shape())};
  for (std::size_t i = 0; i < out.value.size(); ++i) {
    if (g.bias == biased::yes) {
      out.value[i] += in.bias[i % g.n];
      out.magnitude[i] += std::fabs(in.bias[i % g.n]);
    }
    if (g.act != ds::activation::none) {
      out.value[i] = function(g.act, out.value[i]);
      out.magnitude[i] = 2 * out.magnitude[i] + std::fabs(out.value[i]);
    }
    if (g.how == ds::update::add) {
      out.value[i] += in.c[i];
      out.magnitude[i] += std::fabs(in.c[i]);
    }
  }
  return out;
}

template <class T, class B>
std::vector<T> run(const B& b, const gemm_case& g, const operands& in) {
  sheet<T> a(g.m, g.k, g.a, in.a), w(g.k, g.n, g.b, in.b), bias(1, g.n, layout::offset, in.bias);
  sheet<T> c = g.how == ds::update::add ? sheet<T>(g.m, g.n, g.c, in.c) : sheet<T>(g.m, g.n, g.c);
  if (g.bias == biased::yes) {
    ds::ops::gemm(b, a.matrix(), w.matrix(), c.matrix(),
                  ds::gemm_epilogue{bias.vector(), g.act, g.how});
  } else {
    ds::ops::gemm(b, a.matrix(), w.matrix(), c.matrix(), ds::gemm_epilogue<>{{}, g.act, g.how});
  }
  const bool sound = a.unchanged() && w.unchanged() && bias.unchanged() && c.clean();
  CHECK_MESSAGE(sound, "an operand or memory around the result was written: ", g.text());
  return c.values();
}

// On every backend, type and number of threads.
inline void check(const gemm_case& g, const char* op = "gemm") {
  everywhere(op, g.text(), [&](const auto& b, auto zero) {
    using T = decltype(zero);
    const operands in = draw<T>(g);
    const answer want = expected(g, in);
    const std::vector<T> got = run<T>(b, g, in);
    const std::string where =
        std::string(b.name()) + " " + std::string(ds::to_string(type_of<T>)) + " " + g.text();
    judge(op, where, support::chain_limits(type_of<T>, g.k), want.value, got,
          std::max<std::size_t>(g.n, 1), want.magnitude);
    return got;
  });
}

}  // namespace gemm_test
