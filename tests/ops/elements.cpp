// SPDX-License-Identifier: Apache-2.0
// copy, fill, add, scale, sum_of_squares, all_finite: every type, stride and some ranks.
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/all_finite.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/scale.hpp"
#include "deepseek/ops/sum_of_squares.hpp"

#include "deepseek/backend/cpu/add.hpp"
#include "deepseek/backend/cpu/all_finite.hpp"
#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/cpu/fill.hpp"
#include "deepseek/backend/cpu/scale.hpp"
#include "deepseek/backend/cpu/sum_of_squares.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;

namespace {

constexpr const char* every_op[] = {"copy", "fill", "add", "scale", "sum_of_squares", "all_finite"};

// The definition of the sum, written out again: 16 lanes, chunks of 4096, pairwise.
double sum_of_squares_by_definition(const reals& x) {
  double total = 0;
  for (std::size_t begin = 0; begin < x.size(); begin += 4096) {
    double lane[16] = {};
    for (std::size_t i = begin; i < std::min(x.size(), begin + 4096); ++i) {
      lane[(i - begin) % 16] = std::fma(x[i], x[i], lane[(i - begin) % 16]);
    }
    for (const std::size_t half : {8U, 4U, 2U, 1U}) {
      for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    total += lane[0];
  }
  return total;
}

template <class To, class From, class B>
void check_copy(const B& b, const shape_case& c, const std::vector<From>& x) {
  sheet<From> from(c.rows, c.columns, c.how, x);
  sheet<To> to(c.rows, c.columns, c.how == layout::contiguous ? layout::padded : c.how);
  ds::ops::copy(b, from.matrix(), to.matrix());
  const reals want = support::rounded_to<To>(support::to_double(x));
  support::expect_true(
      "copy", where<To>(b, c),
      support::same_bits(support::to_double(to.values()), want) && to.clean() && from.unchanged(),
      "a copied element is not the rounded one");
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  using A = ds::accumulate_t<T>;
  const std::vector<T> x = support::as<T>(drawn<T>(c, c.size(), " x"));
  const std::vector<T> y = support::as<T>(drawn_normal<T>(c, c.size(), " y"));
  check_copy<double>(b, c, x);
  check_copy<float>(b, c, x);
  check_copy<ds::bf16>(b, c, x);
  check_copy<T>(b, c, x);
  sheet<T> a(c.rows, c.columns, c.how, x), s(c.rows, c.columns, c.how, y),
      t(c.rows, c.columns, c.how, y), f(c.rows, c.columns, c.how);
  ds::ops::add(b, a.matrix(), s.matrix());
  ds::ops::scale(b, 0.3, t.matrix());
  ds::ops::fill(b, 0.7, f.matrix());
  std::vector<T> sum, scaled;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum.push_back(static_cast<T>(static_cast<A>(y[i]) + static_cast<A>(x[i])));
    scaled.push_back(static_cast<T>(static_cast<A>(0.3) * static_cast<A>(y[i])));
  }
  const auto expect = [&](const char* op, sheet<T>& got, const std::vector<T>& want) {
    support::expect_true(op, where<T>(b, c), support::same_bits(got.values(), want) && got.clean(),
                         "not the bits of one rounded operation, or memory around was written");
  };
  expect("add", s, sum);
  expect("scale", t, scaled);
  expect("fill", f, std::vector<T>(x.size(), static_cast<T>(0.7)));
  support::expect_true("sum_of_squares", where<T>(b, c),
                       ds::ops::sum_of_squares(b, a.matrix()) ==
                               sum_of_squares_by_definition(support::to_double(x)) &&
                           a.unchanged(),
                       "not the sum in its order");
  bool finite = ds::ops::all_finite(b, a.matrix());
  for (double bad : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    for (std::size_t at : {std::size_t{0}, x.size() / 2, x.size() - 1}) {
      std::vector<T> changed = x;
      changed[at] = static_cast<T>(bad);
      sheet<T> one(c.rows, c.columns, c.how, changed);
      finite = finite && !ds::ops::all_finite(b, one.matrix());
    }
  }
  support::expect_true("all_finite", where<T>(b, c), finite,
                       "an infinity or NaN was missed, or seen");
  return joined(s.values(), t.values());
}

template <class B>
void check_ranks(const B& b) {
  ds::tensor<float, ds::host, 2, 3, 4, 5> x;
  ds::tensor<double, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn> y({2, 3, 4, 5});
  for (int i = 0; i < 120; ++i) x.data()[i] = static_cast<float>(i);
  ds::ops::copy(b, x, y);
  ds::ops::add(b, x, y.view());
  bool right = true;
  for (int i = 0; i < 120; ++i) right = right && y.data()[i] == 2 * i;
  // The same data with two extents exchanged: [4, 2] seen as [2, 4] and stride 0 read as a row.
  const ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn> turned(x.data(), {3, 2, 5},
                                                                    {5, 60, 1});
  ds::tensor<float, ds::host, ds::dyn, ds::dyn, ds::dyn> z({3, 2, 5});
  ds::ops::copy(b, turned, z);
  for (int i = 0; i < 30; ++i) {
    right = right && z.data()[i] == static_cast<float>(i / 10 * 5 + i / 5 % 2 * 60 + i % 5);
  }
  const ds::view<float, ds::host, ds::dyn, ds::dyn> again(x.data() + 1, {3, 5}, {0, 1});
  ds::tensor<float, ds::host, ds::dyn, ds::dyn> w({3, 5});
  ds::ops::copy(b, again, w);
  right = right && w.data()[14] == 5 && w.data()[0] == 1;
  support::expect_true("copy", "ranks", right, "an element went astray");
  ds::tensor<std::int32_t, ds::host, ds::dyn> ids({3}), same({3});
  ids.data()[2] = 1 << 30;
  ds::ops::copy(b, ids, same);
  support::expect_true("copy", "integers", same.data()[2] == 1 << 30, "an integer changed");
}

}  // namespace

TEST_CASE("elements: table of cases") {
  for (const shape_case& c :
       shape_cases({1, 2, 3, 17, 65}, {1, 2, 7, 15, 16, 17, 33, 64, 129, 1000})) {
    everywhere("add", c.text(),
               [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) { check_ranks(b); });
  for (const char* op : every_op) {
    facets(op, {"forward", "strides"});
    support::not_applicable(op, "gradient");
  }
}

TEST_CASE("elements: long tensors, one sum for all threads") {
  const shape_case c{41, 1003};
  everywhere("sum_of_squares", c.text(), [&](const auto& b, auto type) {
    using T = decltype(type);
    sheet<T> x(c.rows, c.columns, c.how, drawn<T>(c, c.size(), " x"));
    const double got = ds::ops::sum_of_squares(b, x.matrix());
    support::expect_true("sum_of_squares", where<T>(b, c),
                         got == sum_of_squares_by_definition(support::to_double(x.values())),
                         "not the sum in its order");
    return std::vector<double>{got};
  });
}

TEST_CASE("elements: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> none({0, 3}), x({2, 3}), y({2, 4});
    ds::ops::copy(b, none, none);
    ds::ops::add(b, none, none.view());
    ds::ops::fill(b, 1, none);
    ds::ops::scale(b, 2, none);
    support::expect_true("sum_of_squares", "zero", ds::ops::sum_of_squares(b, none) == 0, "not 0");
    support::expect_true("all_finite", "zero", ds::ops::all_finite(b, none), "not true");
    CHECK_ERROR(ds::error_code::shape_mismatch, "copy: x[2, 3]", "expected 4",
                ds::ops::copy(b, x, y));
    CHECK_ERROR(ds::error_code::shape_mismatch, "add: x[2, 3]", "expected 4",
                ds::ops::add(b, x, y.view()));
    const ds::view<float, ds::host, ds::dyn> null(nullptr, {3});
    CHECK_ERROR(ds::error_code::invalid_argument, "fill: y[3]", "null", ds::ops::fill(b, 1, null));
    CHECK_ERROR(ds::error_code::invalid_argument, "scale: y[3]", "null",
                ds::ops::scale(b, 1, null));
    CHECK_ERROR(ds::error_code::invalid_argument, "sum_of_squares: x[3]", "null",
                ds::ops::sum_of_squares(b, null));
    CHECK_ERROR(ds::error_code::invalid_argument, "all_finite: x[3]", "null",
                ds::ops::all_finite(b, null));
  });
  for (const char* op : every_op) facets(op, {"zero", "errors"});
}
