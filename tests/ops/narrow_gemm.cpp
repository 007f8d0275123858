// SPDX-License-Identifier: Apache-2.0
// gemm on the cpu with bf16 or f16 activations and weights, results in that type or float: against
// the oracle on what the type holds; every layout, epilogue and number of threads; sums of small
// integers; rows alone; NaN and infinity; experts; poison around every operand.
#include "ops/gemm_case.hpp"

#include "deepseek/ops/grouped_gemm.hpp"

using namespace gemm_test;

namespace {

// Sizes around the tiles: 1, 2, 4, 8, 48 of rows and columns, pairs and chunks along k.
std::vector<gemm_case> narrow_cases() {
  const std::vector<std::size_t> m = {1, 2, 3, 4, 5, 8, 9, 15, 33},
                                 n = {1, 15, 16, 17, 47, 48, 49, 130},
                                 k = {0, 1, 2, 3, 31, 32, 33, 257};
  std::vector<gemm_case> out;
  for (const auto& at : support::pairwise({m.size(), n.size(), k.size(), 4, 4, 4, 4, 2, 2})) {
    out.push_back({m[at[0]], n[at[1]], k[at[2]], static_cast<layout>(at[3]),
                   static_cast<layout>(at[4]), static_cast<layout>(at[5]), support::values::normal,
                   static_cast<ds::activation>(at[6]), static_cast<ds::update>(at[7]),
                   static_cast<biased>(at[8])});
  }
  return out;
}

// a and b in T, c and the bias in C.
template <class T, class C, class B>
std::vector<C> product(const B& b, const gemm_case& g, const operands& in) {
  sheet<T> a(g.m, g.k, g.a, in.a), w(g.k, g.n, g.b, in.b);
  sheet<C> bias(1, g.n, layout::offset, in.bias);
  sheet<C> c = g.how == ds::update::add ? sheet<C>(g.m, g.n, g.c, in.c) : sheet<C>(g.m, g.n, g.c);
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

const std::vector<ds::cpu>& cpus() {
  static const std::vector<ds::cpu> all = thread_contexts();
  return all;
}

template <class T, class C>
void check_narrow(const gemm_case& g) {
  const operands in = draw<T>(g);
  const answer want = expected(g, in);
  std::vector<C> first;
  for (const ds::cpu& b : cpus()) {
    const auto got = product<T, C>(b, g, in);
    if (first.empty()) first = got;
    support::expect_true("narrow_gemm", g.text(), support::same_bits(got, first),
                         "the bits depend on the number of threads");
  }
  judge("narrow_gemm", std::string(ds::to_string(type_of<T>)) + " " + g.text(),
        support::chain_limits(type_of<C>, g.k), want.value, first, std::max<std::size_t>(g.n, 1),
        want.magnitude);
}

// One row of the operands.
operands row_of(const gemm_case& g, const operands& in, std::size_t row) {
  operands cut = in;
  const auto first = in.a.begin() + static_cast<std::ptrdiff_t>(row * g.k);
  cut.a = reals(first, first + static_cast<std::ptrdiff_t>(g.k));
  return cut;
}

}  // namespace

TEST_CASE_TEMPLATE("narrow_gemm: sizes, layouts and epilogues", T, ds::bf16, ds::f16) {
  const auto cases = narrow_cases();
  CHECK(cases.size() >= 64);
  for (const gemm_case& g : cases) {
    check_narrow<T, T>(g);
    check_narrow<T, float>(g);
  }
  for (layout b : {layout::contiguous, layout::transposed}) {
    check_narrow<T, T>({45, 200, 2301, layout::contiguous, b});
    check_narrow<T, float>({520, 100, 70, layout::transposed, b});
    check_narrow<T, T>({8, 300, 700, layout::padded, b});
    check_narrow<T, T>({600, 70, 1100, layout::contiguous, b});  // several blocks of rows and of k
  }
  facets("narrow_gemm", {"forward", "strides", "zero"});
  support::not_applicable("narrow_gemm", "gradient");
}

TEST_CASE_TEMPLATE("narrow_gemm: sums of small integers are exact", T, ds::bf16, ds::f16) {
  for (std::size_t m : {1u, 7u, 8u, 30u}) {
    for (layout how : {layout::contiguous, layout::transposed}) {
      const gemm_case g{
          m, 50, 65, layout::contiguous, how, layout::contiguous, support::values::integer};
      const operands in = draw<T>(g);
      support::expect(
          "narrow_gemm", "exact " + g.text(),
          support::compare(support::exact(ds::dtype::f32), product<T, float>(cpus()[1], g, in),
                           expected(g, in).value, g.n));
    }
  }
}

TEST_CASE_TEMPLATE("narrow_gemm: a row of a batch has the bits of the row alone", T, ds::bf16,
                   ds::f16) {
  const ds::cpu& b = cpus()[2];
  for (layout how : {layout::contiguous, layout::transposed}) {
    for (std::size_t m : {3u, 8u, 37u, 45u, 600u}) {
      for (std::size_t k : {5u, 64u, 701u, 1100u}) {
        if ((m == 600) != (k == 1100)) continue;
        const gemm_case g{m, 70, k, layout::contiguous, how};
        const operands in = draw<T>(g);
        const auto all = product<T, T>(b, g, in);
        gemm_case one = g;
        one.m = 1;
        for (std::size_t row : {std::size_t{0}, m / 2, m - 1}) {
          const auto at = all.begin() + static_cast<std::ptrdiff_t>(row * g.n);
          support::expect_true(
              "narrow_gemm", support::text("row", row) + g.text(),
              support::same_bits(product<T, T>(b, one, row_of(g, in, row)),
                                 std::vector<T>(at, at + static_cast<std::ptrdiff_t>(g.n))),
              "a row of a batch differs from the row alone");
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("narrow_gemm: NaN and infinity among the weights reach exactly their columns", T,
                   ds::bf16, ds::f16) {
  for (layout how : {layout::contiguous, layout::transposed}) {
    for (std::size_t m : {1u, 40u, 48u}) {
      gemm_case g{m, 70, 129, layout::contiguous, how};
      operands in = draw<T>(g);
      in.b[128 * g.n + 3] = std::nan("");
      in.b[64 * g.n + 69] = INFINITY;
      const auto got = product<T, float>(cpus()[0], g, in);
      for (std::size_t i = 0; i < got.size(); ++i) {
        CHECK(std::isnan(got[i]) == (i % g.n == 3));
        CHECK(std::isinf(got[i]) == (i % g.n == 69));
      }
    }
  }
}

TEST_CASE_TEMPLATE("narrow_gemm: experts have the bits of their products alone", T, ds::bf16,
                   ds::f16) {
  constexpr ds::index_t experts = 3, rows = 20, in = 131, out = 70;
  support::numbers from("experts");
  ds::tensor<T, ds::stacked<experts, ds::host>, out, in> w;
  ds::tensor<T, ds::host, rows, in> x;
  for (ds::index_t i = 0; i < w.size(); ++i) w.data()[i] = T(from.normal());
  for (ds::index_t i = 0; i < x.size(); ++i) x.data()[i] = T(from.normal());
  const std::int32_t plan[] = {0, 1, 1, rows};
  const ds::view<const std::int32_t, ds::host, ds::dyn> offsets(plan, {experts + 1});
  for (const ds::cpu& b : cpus()) {
    ds::tensor<T, ds::host, rows, out> got, want;
    ds::ops::grouped_gemm(b, x, transposed(w.view()), offsets, got);
    for (ds::index_t e : {0, 2}) {
      const ds::index_t first = e == 0 ? 0 : 1, count = e == 0 ? 1 : rows - 1;
      ds::ops::gemm(b, ds::rows(x.view(), first, count), transposed(ds::slice(w.view(), e)),
                    ds::rows(want.view(), first, count));
    }
    CHECK(std::memcmp(got.data(), want.data(), sizeof(T) * rows * out) == 0);
  }
}
