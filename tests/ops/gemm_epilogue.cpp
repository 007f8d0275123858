// SPDX-License-Identifier: Apache-2.0
// What follows a product: bias, function, addition, in every layout of c; gradients of the product
// by differences; what is added to is added once.
#include "ops/gemm_case.hpp"

using namespace gemm_test;

TEST_CASE("gemm: bias, functions and addition") {
  const std::vector<std::size_t> m = {1, 3, 8, 17, 40}, n = {1, 7, 16, 33, 70},
                                 k = {0, 1, 9, 64, 130};
  for (const auto& at : support::pairwise({m.size(), n.size(), k.size(), 4, 4, 2, 2, 2})) {
    gemm_case g{m[at[0]], n[at[1]], k[at[2]]};
    g.c = static_cast<layout>(at[3]);
    g.act = static_cast<ds::activation>(at[4]);
    g.how = static_cast<ds::update>(at[5]);
    g.bias = static_cast<biased>(at[6]);
    g.b = at[7] == 0 ? layout::contiguous : layout::transposed;
    check(g);
  }
  facets("gemm", {"forward", "strides"});
}

TEST_CASE("gemm: gradients by differences") {
  on_both([](const auto& b) {
    for (layout how : {layout::contiguous, layout::transposed}) {
      const std::size_t m = 4, n = 3, k = 5;
      gemm_case g{m, n, k, how, how, layout::contiguous};
      g.bias = biased::yes;
      const operands in = draw<double>(g);
      const reals weights = support::loss_weights(m * n);
      sheet<double> a(m, k, how, in.a), w(k, n, how, in.b), dc(m, n, layout::padded, weights);
      sheet<double> da(m, k, how), dw(k, n, how, reals(k * n)), dbias(1, n, how, reals(n));
      const auto once = [&] {
        ds::ops::gemm_backward(b, ds::gemm_inputs{a.matrix(), w.matrix()}, dc.matrix(),
                               ds::gemm_gradients{da.matrix(), dw.matrix(), dbias.vector()});
      };
      once();
      CHECK((a.unchanged() && w.unchanged() && dc.unchanged()));
      const auto loss_of = [&](reals operands::*which) {
        return [&, which](const reals& x) {
          operands at = in;
          at.*which = x;
          return support::weighted_sum(weights, run<double>(b, g, at));
        };
      };
      const std::string text = support::text("layout", static_cast<int>(how));
      support::expect_gradient("gemm", "da " + text,
                               support::check_gradient(loss_of(&operands::a), in.a, da.values()));
      support::expect_gradient("gemm", "db " + text,
                               support::check_gradient(loss_of(&operands::b), in.b, dw.values()));
      support::expect_gradient(
          "gemm", "dbias " + text,
          support::check_gradient(loss_of(&operands::bias), in.bias, dbias.values()));
      const auto first = da.values(), first_w = dw.values(), first_bias = dbias.values();
      once();
      const auto twice = [](reals x) {
        for (double& e : x) e += e;
        return x;
      };
      CHECK(support::same_bits(da.values(), first));
      CHECK(support::same_bits(dw.values(), twice(first_w)));
      CHECK(support::same_bits(dbias.values(), twice(first_bias)));
    }
  });
}

TEST_CASE("gemm: a float gradient on the cpu is that of double; added twice it is doubled") {
  const gemm_case g{70, 33, 257};
  const operands in = draw<float>(g);
  const ds::cpu b{{.threads = 2}};
  for (layout how : {layout::contiguous, layout::transposed}) {
    sheet<float> a(70, 257, how, in.a), w(257, 33, how, in.b), dc(70, 33, how, in.c);
    sheet<float> da(70, 257, how), dw(257, 33, how, reals(257 * 33));
    for (int times = 1; times <= 2; ++times) {
      ds::ops::gemm_backward(b, ds::gemm_inputs{a.matrix(), w.matrix()}, dc.matrix(),
                             ds::gemm_gradients{da.matrix(), dw.matrix()});
      oracle::gemm_shape sa{70, 257, 33}, sw{257, 33, 70};
      sa.b = sw.a = oracle::stored::transposed;
      const auto scaled = [&](reals x) {
        for (double& e : x) e *= times;
        return x;
      };
      judge("gemm", "da", support::doubled(support::chain_limits(ds::dtype::f32, 33)),
            oracle::gemm(in.c, in.b, sa), da.values(), 257, oracle::gemm_magnitude(in.c, in.b, sa));
      judge("gemm", "db", support::doubled(support::chain_limits(ds::dtype::f32, 70)),
            scaled(oracle::gemm(in.a, in.c, sw)), dw.values(), 33,
            scaled(oracle::gemm_magnitude(in.a, in.c, sw)));
    }
  }
}

TEST_CASE("add_column_sums: sizes, layouts, values and types") {
  const char* op = "add_column_sums";
  for (const shape_case& c : shape_cases({1, 2, 33, 255, 257, 600}, {1, 3, 16, 65})) {
    everywhere(op, c.text(), [&](const auto& b, auto zero) {
      using T = decltype(zero);
      const reals x = drawn<T>(c, c.size(), " x"), start = drawn_normal<T>(c, c.columns, " out");
      sheet<T> from(c.rows, c.columns, c.how, x), out(1, c.columns, c.how, start);
      ds::ops::add_column_sums(b, from.matrix(), out.vector());
      CHECK((from.unchanged() && out.clean()));
      reals want = start, size = oracle::absolute(start);
      for (std::size_t i = 0; i < x.size(); ++i) {
        want[i % c.columns] += x[i];
        size[i % c.columns] += std::fabs(x[i]);
      }
      support::limits l = support::chain_limits(type_of<T>, c.rows);
      if (c.kind == support::values::all_equal) {  // equal terms round alike: errors add up
        l.relative += static_cast<double>(c.rows) * 0x1p-24;
        l.c += static_cast<double>(c.rows);
      }
      judge(op, where<T>(b, c), l, want, out.values(), c.columns, size);
      return out.values();
    });
  }
  facets(op, {"forward", "strides", "gradient"});  // linear: what it adds is a gradient itself
}

TEST_CASE("add_column_sums: zero sizes and errors") {
  const char* op = "add_column_sums";
  on_both([&](const auto& b) {
    float data[8] = {1, 1, 1, 1, 1, 1, 1, 1}, sums[4] = {5, 6, 7, 8};
    using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
    const ds::view<float, ds::host, ds::dyn> out(sums, {4}), null(nullptr, {4});
    ds::ops::add_column_sums(b, matrix(nullptr, {0, 4}), out);
    ds::ops::add_column_sums(b, matrix(nullptr, {3, 0}), ds::view<float, ds::host, ds::dyn>());
    support::expect_true(op, "zero", sums[0] == 5 && sums[3] == 8, "something was written");
    CHECK_ERROR(ds::error_code::shape_mismatch, "add_column_sums: out[4]", "expected 3",
                ds::ops::add_column_sums(b, matrix(data, {2, 3}), out));
    CHECK_ERROR(ds::error_code::invalid_argument, "add_column_sums: x[2, 4]", "null",
                ds::ops::add_column_sums(b, matrix(nullptr, {2, 4}), out));
    CHECK_ERROR(ds::error_code::invalid_argument, "add_column_sums: out[4]", "null",
                ds::ops::add_column_sums(b, matrix(data, {2, 4}), null));
  });
  facets(op, {"zero", "errors"});
}
