// SPDX-License-Identifier: Apache-2.0
// unit_rows, which contrastive scores are made of: the formula in long double, differences, rows of
// zeros, errors.
#include "deepseek/ops/unit_rows.hpp"

#include "deepseek/backend/reference/unit_rows.hpp"

#include "ops/large_rows.hpp"
#include "ops/table.hpp"

using namespace table;
using code = ds::error_code;

namespace {

template <class T>
constexpr double roundoff = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;

template <class T, class B>
std::vector<T> check_unit_rows(const B& b, const shape_case& c) {
  const reals x = drawn_normal<T>(c, c.size(), " x"), dy = drawn_normal<T>(c, c.size(), " dy");
  reals want(c.size()), dx_want(c.size());
  for (std::size_t i = 0; i < c.rows; ++i) {
    long double sum = 0, along = 0;
    for (std::size_t j = i * c.columns; j < (i + 1) * c.columns; ++j) sum += x[j] * x[j];
    const long double n = std::sqrt(sum);
    for (std::size_t j = i * c.columns; j < (i + 1) * c.columns; ++j) along += x[j] / n * dy[j];
    for (std::size_t j = i * c.columns; j < (i + 1) * c.columns; ++j) {
      want[j] = static_cast<double>(x[j] / n);
      dx_want[j] = static_cast<double>((dy[j] - x[j] / n * along) / n);
    }
  }
  sheet<T> in(c.rows, c.columns, c.how, x), y(c.rows, c.columns, c.how),
      dyt(c.rows, c.columns, c.how, dy), dx(c.rows, c.columns, c.how);
  std::vector<ds::accumulate_t<T>> norms(c.rows);
  const ds::view<ds::accumulate_t<T>, ds::host, ds::dyn> nv(norms.data(),
                                                            {static_cast<ds::index_t>(c.rows)});
  const ds::unit_outputs out{y.matrix(), nv};
  ds::ops::unit_rows(b, in.matrix(), out);
  auto allowed = support::gemm_limits(type_of<T>, c.columns);
  allowed.relative += 8 * roundoff<T>;
  allowed.c = -1;
  judge("unit_rows", where<T>(b, c), allowed, want, y.values(), c.columns);
  ds::ops::unit_rows_backward(b, out, dyt.matrix(), dx.matrix());
  // dx of 16-bit types starts from a rounded y; the test by differences is the sharp one.
  if constexpr (std::is_same_v<T, double>) {
    allowed.relative += 1e-12;
    if (c.columns > 1)
      judge("unit_rows_backward", where<T>(b, c), allowed, dx_want, dx.values(), c.size());
  }
  support::expect_true("unit_rows", "memory " + where<T>(b, c),
                       in.unchanged() && y.clean() && dyt.unchanged() && dx.clean(),
                       "an input or memory around an output was written");
  return joined(y.values(), dx.values());
}

}  // namespace

TEST_CASE("unit_rows: table of cases, gradient by differences, rows of zeros") {
  for (const shape_case& c : shape_cases({1, 2, 5, 33}, {1, 2, 7, 16, 65})) {
    everywhere("unit_rows", c.text(),
               [&](const auto& b, auto type) { return check_unit_rows<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) {
    const reals x = drawn_normal<double>({3, 5}, 15, " x"), w = support::loss_weights(15);
    reals y(15), norms(3), dx(15);
    using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
    const ds::unit_outputs out{matrix(y.data(), {3, 5}),
                               ds::view<double, ds::host, ds::dyn>(norms.data(), {3})};
    const auto loss = [&](const reals& at) {
      reals from = at;
      ds::ops::unit_rows(b, matrix(from.data(), {3, 5}), out);
      return support::weighted_sum(w, y);
    };
    loss(x);
    reals dy = w;
    ds::ops::unit_rows_backward(b, out, matrix(dy.data(), {3, 5}), matrix(dx.data(), {3, 5}));
    support::expect_gradient("unit_rows_backward", "3 x 5", support::check_gradient(loss, x, dx));
    // Below eps a row is divided by eps: a straight line, whose gradient is dy / eps.
    reals small(15, 1e-3);
    ds::ops::unit_rows(b, matrix(small.data(), {3, 5}), out, 0.5);
    for (double v : y) CHECK(v == doctest::Approx(2e-3));
    ds::ops::unit_rows_backward(b, out, matrix(dy.data(), {3, 5}), matrix(dx.data(), {3, 5}));
    for (std::size_t i = 0; i < 15; ++i) CHECK(dx[i] == doctest::Approx(2 * w[i]));
    const ds::unit_outputs nothing{matrix(nullptr, {0, 5}),
                                   ds::view<double, ds::host, ds::dyn>(nullptr, {0})};
    ds::ops::unit_rows(b, matrix(nullptr, {0, 5}), nothing);
    ds::ops::unit_rows_backward(b, nothing, matrix(nullptr, {0, 5}), matrix(nullptr, {0, 5}));
    CHECK_ERROR(code::shape_mismatch, "unit_rows: y[3, 5]",
                ds::ops::unit_rows(b, matrix(small.data(), {3, 4}), out));
    CHECK_ERROR(code::invalid_argument, "eps is 0",
                ds::ops::unit_rows(b, matrix(small.data(), {3, 5}), out, 0));
    CHECK_ERROR(
        code::shape_mismatch, "unit_rows_backward: dy[3, 4]",
        ds::ops::unit_rows_backward(b, out, matrix(dy.data(), {3, 4}), matrix(dx.data(), {3, 5})));
  });
  facets("unit_rows", {"forward", "strides", "zero", "errors"});
  facets("unit_rows_backward", {"forward", "strides", "zero", "errors"});
  support::not_applicable("unit_rows", "gradient");
}

TEST_CASE_TEMPLATE("unit_rows: rows whose squares overflow", T, float, ds::bf16, double) {
  const auto run = [](const auto& b, auto& r) {
    using A = ds::accumulate_t<T>;
    std::vector<A> lengths(3);
    const ds::unit_outputs out{r.of(r.y),
                               ds::view<A, ds::host, ds::dyn>(lengths.data(), {ds::index_t{3}})};
    ds::ops::unit_rows(b, r.of(r.x), out);
    if (r.n > 1) ds::ops::unit_rows_backward(b, out, r.of(r.dy), r.of(r.dx));
    r.dw = r.w;
  };
  const double largest = sizeof(T) == 8 ? 1e308 : 3e38;  // the length itself overflows there
  large_rows::check<T>({sizeof(T) == 8 ? 1e20 : 1e10, std::sqrt(largest), largest}, run);
}
