// SPDX-License-Identifier: Apache-2.0
// gemm without epilogue against the oracle: sizes around tile edges, every layout of each operand,
// every class of values; exact sums; rows alone; zero sizes; batches; errors.
#include "ops/gemm_case.hpp"

using namespace gemm_test;

namespace {

std::vector<gemm_case> size_cases() {
  const std::vector<std::size_t> m = {1, 2, 3, 7, 8, 9, 17, 33, 65},
                                 n = {1, 3, 8, 15, 16, 17, 33, 65, 100},
                                 k = {0, 1, 2, 7, 16, 33, 65, 257};
  constexpr std::size_t kinds = sizeof support::every_class / sizeof support::every_class[0];
  std::vector<gemm_case> out;
  for (const auto& at : support::pairwise({m.size(), n.size(), k.size(), 4, 4, 4, kinds})) {
    out.push_back({m[at[0]], n[at[1]], k[at[2]], static_cast<layout>(at[3]),
                   static_cast<layout>(at[4]), static_cast<layout>(at[5]),
                   support::every_class[at[6]]});
  }
  return out;
}

}  // namespace

TEST_CASE("gemm: sizes, layouts, values and types") {
  const auto cases = size_cases();
  CHECK(cases.size() * 7 >= 300);
  for (const gemm_case& g : cases) check(g);
  check({130, 70, 1025});
  check({3, 300, 130, layout::transposed, layout::transposed, layout::transposed});
  facets("gemm", {"forward", "strides"});
}

TEST_CASE("gemm: sums of small integers are exact") {
  for (std::size_t size : {1u, 5u, 16u, 31u, 64u, 97u}) {
    for (auto how : {ds::update::write, ds::update::add}) {
      const gemm_case g{size,
                        size + 3,
                        2 * size,
                        layout::contiguous,
                        layout::transposed,
                        layout::padded,
                        support::values::integer,
                        ds::activation::none,
                        how};
      on_both([&](const auto& b) {
        const operands in = draw<float>(g);
        support::expect("gemm", "exact " + g.text(),
                        support::compare(support::exact(ds::dtype::f32), run<float>(b, g, in),
                                         expected(g, in).value, g.n));
      });
    }
  }
}

TEST_CASE("gemm: on the cpu a row of a batch has the bits of the row alone") {
  const ds::cpu b{{.threads = 3}};
  for (layout how : {layout::contiguous, layout::transposed}) {
    for (std::size_t k : {5u, 64u, 700u}) {
      gemm_case g{37, 45, k, how, how};
      const operands in = draw<float>(g);
      const auto all = run<float>(b, g, in);
      for (std::size_t row : {0u, 8u, 36u}) {
        gemm_case one = g;
        one.m = 1;
        operands cut = in;
        const auto first = in.a.begin() + static_cast<std::ptrdiff_t>(row * k);
        cut.a = reals(first, first + static_cast<std::ptrdiff_t>(k));
        const auto at = all.begin() + static_cast<std::ptrdiff_t>(row * g.n);
        const std::vector<float> want(at, at + static_cast<std::ptrdiff_t>(g.n));
        support::expect_true("gemm", support::text("row", row) + " " + g.text(),
                             support::same_bits(run<float>(b, one, cut), want),
                             "a row of a batch differs from the row alone");
      }
    }
  }
}

TEST_CASE("gemm: nothing to write, nothing to sum") {
  on_both([](const auto& b) {
    const std::vector<std::array<std::size_t, 3>> sizes = {
        {0, 4, 3}, {4, 0, 3}, {0, 0, 0}, {3, 5, 0}, {1, 1, 0}};
    for (const auto& [m, n, k] : sizes) {
      for (auto how : {ds::update::write, ds::update::add}) {
        gemm_case g{m, n, k};
        g.how = how;
        const operands in = draw<float>(g);
        const auto got = run<float>(b, g, in);
        const reals want = how == ds::update::add ? in.c : reals(m * n);
        support::expect_true("gemm", "zero " + g.text(),
                             support::same_bits(got, support::as<float>(want)),
                             "an empty sum is not zero");
        g.act = ds::activation::gelu;
        g.bias = biased::yes;
        judge("gemm", "zero " + g.text(), support::chain_limits(ds::dtype::f32, 1),
              expected(g, in).value, run<float>(b, g, in), std::max<std::size_t>(n, 1),
              expected(g, in).magnitude);
      }
    }
    ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {0, 4});
    float data[12] = {};
    ds::ops::gemm(b, null, ds::view<float, ds::host, ds::dyn, ds::dyn>(data, {4, 3}),
                  ds::view<float, ds::host, ds::dyn, ds::dyn>(nullptr, {0, 3}));
  });
  facets("gemm", {"zero"});
}

TEST_CASE("gemm: NaN and infinity arrive where they belong") {
  on_both([](const auto& b) {
    const gemm_case g{9, 20, 17};
    operands in = draw<float>(g);
    in.a[3 * 17 + 5] = std::nan("");
    in.a[6 * 17 + 1] = HUGE_VAL;
    for (std::size_t i = 0; i < in.b.size(); ++i) in.b[i] += in.b[i] >= 0 ? 0.5 : -0.5;
    in.a = support::rounded_to<float>(in.a), in.b = support::rounded_to<float>(in.b);
    const answer want = expected(g, in);
    judge("gemm", "not finite", support::chain_limits(ds::dtype::f32, 17), want.value,
          run<float>(b, g, in), 20);
  });
}

TEST_CASE("gemm: batches, one factor for all by stride 0") {
  using batch = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  constexpr std::size_t n = 4;
  on_both([](const auto& b) {
    for (bool same_a : {false, true}) {
      for (bool same_b : {false, true}) {
        const gemm_case g{7, 19, 23};
        support::numbers from(support::text("same_a", same_a, "same_b", same_b));
        const auto values = [&](std::size_t size) {
          return support::as<float>(support::draw(support::values::normal, size, from));
        };
        std::vector<float> a = values(n * 7 * 23), w = values(n * 23 * 19), c(n * 7 * 19);
        const batch av(a.data(), {n, 7, 23}, {same_a ? 0 : 7 * 23, 23, 1});
        const batch wv(w.data(), {n, 23, 19}, {same_b ? 0 : 23 * 19, 19, 1});
        ds::ops::gemm(b, av, wv, batch(c.data(), {n, 7, 19}));
        for (std::size_t i = 0; i < n; ++i) {
          const auto part = [i](const std::vector<float>& x, std::size_t size, bool same) {
            const auto first = x.begin() + static_cast<std::ptrdiff_t>(same ? 0 : i * size);
            return std::vector<float>(first, first + static_cast<std::ptrdiff_t>(size));
          };
          const operands in{support::to_double(part(a, 7 * 23, same_a)),
                            support::to_double(part(w, 23 * 19, same_b)),
                            {},
                            {}};
          operands alone = in;
          alone.bias.resize(19), alone.c.resize(7 * 19);
          const answer want = expected(g, in);
          const auto got = part(c, 7 * 19, false);
          judge("gemm", support::text("batch", i, "same_a", same_a, "same_b", same_b),
                support::chain_limits(ds::dtype::f32, 23), want.value, got, 19, want.magnitude);
          support::expect_true("gemm", support::text("alone", i),
                               support::same_bits(run<float>(b, g, alone), got),
                               "a batch differs from its products alone");
        }
      }
    }
  });
}

TEST_CASE("gemm: element types may differ") {
  on_both([](const auto& b) {
    const gemm_case g{5, 9, 33};
    const operands in = draw<ds::bf16>(g);
    sheet<float> a(5, 33, layout::padded, in.a), c(5, 9, layout::contiguous);
    sheet<ds::bf16> w(33, 9, layout::transposed, in.b);
    ds::ops::gemm(b, a.matrix(), w.matrix(), c.matrix());
    const answer want = expected(g, in);
    judge("gemm", "f32 x bf16", support::chain_limits(ds::dtype::f32, 33), want.value, c.values(),
          9, want.magnitude);
    sheet<double> bias(1, 9, layout::contiguous, in.bias);
    sheet<float> wf(33, 9, layout::contiguous, in.b);
    ds::ops::gemm(b, a.matrix(), wf.matrix(), c.matrix(), ds::gemm_epilogue{bias.vector()});
    gemm_case with = g;
    with.bias = biased::yes;
    judge("gemm", "f64 bias", support::chain_limits(ds::dtype::f32, 33), expected(with, in).value,
          c.values(), 9, expected(with, in).magnitude);
  });
}

TEST_CASE("gemm: errors name the sizes") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using batch = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  float data[64] = {};
  const ds::view<float, ds::host, ds::dyn> bias(data, {4}), null_bias(nullptr, {3});
  on_both([&](const auto& b) {
    const matrix a(data, {2, 5}), w(data, {5, 3}), c(data + 32, {2, 3}), other(data + 32, {4, 3});
    using ds::error_code;
    const auto& op = ds::ops::gemm;
    CHECK_ERROR(error_code::shape_mismatch, "gemm: b[4, 3]", "a[2, 5]", op(b, a, other, c));
    CHECK_ERROR(error_code::shape_mismatch, "gemm: c[4, 3]", "a[2, 5]", "b[5, 3]",
                op(b, a, w, other));
    CHECK_ERROR(error_code::shape_mismatch, "gemm: bias[4]", "expected 3",
                op(b, a, w, c, ds::gemm_epilogue{bias}));
    CHECK_ERROR(error_code::invalid_argument, "gemm: bias[3]", "null",
                op(b, a, w, c, ds::gemm_epilogue{null_bias}));
    CHECK_ERROR(error_code::invalid_argument, "gemm: a[2, 5]", "null",
                op(b, matrix(nullptr, {2, 5}), w, c));
    CHECK_ERROR(error_code::invalid_argument, "gemm: b[5, 3]", "null",
                op(b, a, matrix(nullptr, {5, 3}), c));
    CHECK_ERROR(error_code::invalid_argument, "gemm: c[2, 3]", "null",
                op(b, a, w, matrix(nullptr, {2, 3})));
    CHECK_ERROR(error_code::invalid_argument, "gemm: a[-2, 5]: extent 0 is -2",
                op(b, matrix(data, {-2, 5}), w, matrix(data + 32, {-2, 3})));
    CHECK_ERROR(error_code::shape_mismatch, "gemm: b[3, 2, 2]", "expected 2",
                op(b, batch(data, {2, 2, 2}), batch(data, {3, 2, 2}), batch(data, {2, 2, 2})));
  });
  facets("gemm", {"errors"});
}

TEST_CASE("gemm: a product that would overwrite what it reads is refused, nothing is written") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  float data[32];
  for (int i = 0; i < 32; ++i) data[i] = static_cast<float>(i);
  const matrix first(data, {4, 4}), second(data + 16, {4, 4});
  on_both([&](const auto& b) {
    CHECK_ERROR(ds::error_code::aliasing, "gemm: a[4, 4]", "overlaps",
                ds::ops::gemm(b, first, second, first));
    CHECK_ERROR(ds::error_code::aliasing, "gemm: b[4, 4]", "overlaps",
                ds::ops::gemm(b, first, second, second));
    CHECK(data[5] == 5);
    CHECK(data[21] == 21);
    // Columns of one buffer that interleave are no overlap; an empty input is none either.
    const matrix left(data, {4, 2}, {8, 1}), right(data + 2, {4, 2}, {8, 1});
    const matrix square(data + 4, {2, 2}, {8, 1});
    ds::ops::gemm(b, left, square, right);
    float zeros[4] = {1, 1, 1, 1};
    ds::ops::gemm(b, matrix(zeros, {2, 0}), matrix(zeros, {0, 2}), matrix(zeros, {2, 2}));
    CHECK(zeros[3] == 0);
    for (int i = 0; i < 32; ++i) data[i] = static_cast<float>(i);
  });
}
