// SPDX-License-Identifier: Apache-2.0
// gemm and grouped_gemm with float activations and bf16 weights: against the oracle on what bf16
// holds, and bit for bit the product with the same weights as floats; every layout, epilogue, batch
// and number of threads; rows alone; poison around every operand.
#include "ops/gemm_case.hpp"

#include "deepseek/backend/cpu/mixed_gemm.hpp"
#include "deepseek/ops/grouped_gemm.hpp"

using namespace gemm_test;

namespace {

std::vector<gemm_case> mixed_cases() {
  const std::vector<std::size_t> m = {1, 2, 3, 4, 7, 8, 9, 13, 33},
                                 n = {1, 8, 15, 16, 17, 31, 33, 63, 64, 65, 130},
                                 k = {0, 1, 2, 3, 16, 31, 127, 128, 129, 257, 300};
  std::vector<gemm_case> out;
  for (const auto& at : support::pairwise({m.size(), n.size(), k.size(), 4, 4, 3, 4, 2, 2})) {
    out.push_back({m[at[0]], n[at[1]], k[at[2]], static_cast<layout>(at[3]),
                   static_cast<layout>(at[4]), static_cast<layout>(at[5]), support::values::normal,
                   static_cast<ds::activation>(at[6]), static_cast<ds::update>(at[7]),
                   static_cast<biased>(at[8])});
  }
  return out;
}

// Weights rounded to bf16, so that both element types hold the same numbers.
operands draw_mixed(const gemm_case& g) {
  operands in = draw<float>(g);
  in.b = support::rounded_to<ds::bf16>(in.b);
  return in;
}

template <class W, class B>
std::vector<float> run_with(const B& b, const gemm_case& g, const operands& in) {
  sheet<float> a(g.m, g.k, g.a, in.a), bias(1, g.n, layout::offset, in.bias);
  sheet<W> w(g.k, g.n, g.b, in.b);
  sheet<float> c =
      g.how == ds::update::add ? sheet<float>(g.m, g.n, g.c, in.c) : sheet<float>(g.m, g.n, g.c);
  if (g.bias == biased::yes) {
    ds::ops::gemm(b, a.matrix(), w.matrix(), c.matrix(),
                  ds::gemm_epilogue{bias.vector(), g.act, g.how});
  } else {
    ds::ops::gemm(b, a.matrix(), w.matrix(), c.matrix(), ds::gemm_epilogue<>{{}, g.act, g.how});
  }
  CHECK_MESSAGE((a.unchanged() && w.unchanged() && bias.unchanged() && c.clean()),
                "an operand or memory around the result was written: ", g.text());
  return c.values();
}

void check_mixed(const gemm_case& g) {
  static const ds::reference plain;
  static const std::vector<ds::cpu> cpus = thread_contexts();
  const operands in = draw_mixed(g);
  const answer want = expected(g, in);
  const auto judged = [&](const auto& b) {
    const auto got = run_with<ds::bf16>(b, g, in);
    judge("mixed_gemm", std::string(b.name()) + " " + g.text(),
          support::chain_limits(ds::dtype::f32, g.k), want.value, got,
          std::max<std::size_t>(g.n, 1), want.magnitude);
    return got;
  };
  judged(plain);
  for (const ds::cpu& b : cpus) {
    const auto got = judged(b);
    support::expect_true("mixed_gemm", g.text(), support::same_bits(got, run_with<float>(b, g, in)),
                         "not the bits of the product with floats");
  }
}

}  // namespace

TEST_CASE("mixed_gemm: sizes, layouts and epilogues") {
  const auto cases = mixed_cases();
  CHECK(cases.size() >= 100);
  for (const gemm_case& g : cases) check_mixed(g);
  for (layout b : {layout::contiguous, layout::transposed}) {
    check_mixed({40, 600, 700, layout::contiguous, b});
    check_mixed({1, 600, 700, layout::contiguous, b});
    check_mixed({8, 1100, 260, layout::padded, b});
  }
  facets("mixed_gemm", {"forward", "strides", "zero"});
  support::not_applicable("mixed_gemm", "gradient");
}

TEST_CASE("mixed_gemm: a row of a batch has the bits of the row alone") {
  const ds::cpu b{{.threads = 3}};
  for (layout how : {layout::contiguous, layout::transposed}) {
    gemm_case g{37, 70, 300, layout::contiguous, how};
    const operands in = draw_mixed(g);
    const auto all = run_with<ds::bf16>(b, g, in);
    for (std::size_t row : {0u, 9u, 36u}) {
      gemm_case one = g;
      one.m = 1;
      operands cut = in;
      const auto first = in.a.begin() + static_cast<std::ptrdiff_t>(row * g.k);
      cut.a = reals(first, first + static_cast<std::ptrdiff_t>(g.k));
      const auto at = all.begin() + static_cast<std::ptrdiff_t>(row * g.n);
      support::expect_true(
          "mixed_gemm", support::text("row", row) + g.text(),
          support::same_bits(run_with<ds::bf16>(b, one, cut),
                             std::vector<float>(at, at + static_cast<std::ptrdiff_t>(g.n))),
          "a row of a batch differs from the row alone");
    }
  }
}

TEST_CASE("mixed_gemm: NaN and infinity among the weights reach exactly their columns") {
  const ds::cpu b{{.threads = 1}};
  for (std::size_t m : {1u, 40u}) {
    gemm_case g{m, 70, 130, layout::contiguous, layout::transposed};
    operands in = draw_mixed(g);
    in.b[129 * g.n + 3] = std::nan("");
    in.b[64 * g.n + 69] = INFINITY;
    const auto got = run_with<ds::bf16>(b, g, in);
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK(std::isnan(got[i]) == (i % g.n == 3));
      CHECK(std::isinf(got[i]) == (i % g.n == 69));
    }
  }
}

TEST_CASE("mixed_gemm: batches and experts") {
  constexpr ds::index_t experts = 4, rows = 20, in = 130, out = 70;
  support::numbers from("experts");
  ds::tensor<ds::bf16, ds::stacked<experts, ds::host>, out, in> narrow;
  ds::tensor<float, ds::stacked<experts, ds::host>, out, in> wide;
  ds::tensor<float, ds::host, rows, in> x;
  for (ds::index_t i = 0; i < narrow.size(); ++i) {
    narrow.data()[i] = ds::bf16(from.normal());
    wide.data()[i] = narrow.data()[i];
  }
  for (ds::index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  const std::int32_t plan[] = {0, 1, 1, 14, rows};
  const ds::view<const std::int32_t, ds::host, ds::dyn> offsets(plan, {experts + 1});
  for (int threads : {1, 2, 3}) {
    const ds::cpu b{{.threads = threads}};
    ds::tensor<float, ds::host, rows, out> got, want;
    ds::ops::grouped_gemm(b, x, transposed(narrow.view()), offsets, got);
    ds::ops::grouped_gemm(b, x, transposed(wide.view()), offsets, want);
    CHECK(std::memcmp(got.data(), want.data(), sizeof(float) * rows * out) == 0);
    const ds::view<const float, ds::host, ds::dyn, ds::dyn, ds::dyn> batch(x.data(),
                                                                           {experts, 5, in});
    ds::tensor<float, ds::host, experts, 5, out> every, expected;
    ds::ops::gemm(b, batch, transposed(narrow.view()), every);
    ds::ops::gemm(b, batch, transposed(wide.view()), expected);
    CHECK(std::memcmp(every.data(), expected.data(), sizeof(float) * experts * 5 * out) == 0);
    // Untransposed weights, and a part of them: what per-head products take.
    ds::tensor<float, ds::host, rows, in> back, forth;
    const auto part = [&](const auto& w) { return ds::rows(ds::slice(w.view(), 1), 10, 33); };
    const ds::view<const float, ds::host, ds::dyn, ds::dyn> cut(x.data(), {rows, 33}, {in, 1});
    ds::ops::gemm(b, cut, part(narrow), back);
    ds::ops::gemm(b, cut, part(wide), forth);
    CHECK(std::memcmp(back.data(), forth.data(), sizeof(float) * rows * in) == 0);
  }
}
