// SPDX-License-Identifier: Apache-2.0
// unfold and its gradient against the oracle: windows that touch, overlap and leave gaps, edges
// that fill no window, strides; a linear map's gradient is its transpose, checked by differences.
#include "deepseek/ops/unfold.hpp"

#include "deepseek/backend/cpu/unfold.hpp"

#include "ops/table.hpp"
#include "oracle/unfold.hpp"

using namespace table;

namespace {

constexpr const char* op = "unfold";
using windows = oracle::image_windows;

ds::unfold_spec spec_of(const windows& w) {
  const auto whole = [](std::size_t n) { return static_cast<ds::index_t>(n); };
  return {whole(w.tall), whole(w.wide), whole(w.down), whole(w.across)};
}

// Images as rows of width elements, in the layout of a sheet.
template <class T>
auto images(sheet<T>& s, const windows& w) {
  const auto m = s.matrix();
  const auto whole = [](std::size_t n) { return static_cast<ds::index_t>(n); };
  const ds::index_t line = m.stride(0), c = whole(w.channels), h = whole(w.height);
  return ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn>(
      m.data(), {whole(w.images), c, h, whole(w.width)},
      {c * h * line, h * line, line, m.stride(1)});
}

template <class T, class B>
std::vector<T> check(const B& b, const windows& w, const shape_case& c) {
  const reals x = drawn<T>(c, w.size(), " x"),
              dy = drawn_normal<T>(c, w.count() * w.window(), " dy");
  const std::size_t lines = w.images * w.channels * w.height;
  sheet<T> from(lines, w.width, c.how, x), to(w.count(), w.window(), c.how);
  ds::ops::unfold(b, images(from, w), spec_of(w), to.matrix());
  const std::string text = where<T>(b, c) + support::text(" down", w.down, "across", w.across);
  judge(op, text, support::exact(type_of<T>), oracle::unfold(x, w), to.values(), w.window());
  sheet<T> grad(w.count(), w.window(), c.how, dy), dx(lines, w.width, c.how);
  ds::ops::unfold_backward(b, grad.matrix(), spec_of(w), images(dx, w));
  reals size = dy;
  for (double& e : size) e = std::fabs(e);
  judge(op, "gradient " + text, support::gemm_limits(type_of<T>, w.tall * w.wide),
        oracle::unfold_backward(dy, w), dx.values(), w.width, oracle::unfold_backward(size, w));
  support::expect_true(op, "memory " + text,
                       from.unchanged() && to.clean() && grad.unchanged() && dx.clean(),
                       "an input or memory around an output was written");
  return joined(to.values(), dx.values());
}

}  // namespace

TEST_CASE("unfold: table of cases") {
  const windows table[] = {{3, 2, 8, 12, 4, 4, 4, 4},   {1, 1, 7, 7, 3, 2, 1, 1},
                           {2, 3, 9, 5, 2, 5, 3, 1},    {5, 1, 11, 4, 3, 4, 2, 4},
                           {1, 2, 4, 6, 4, 6, 1, 1},    {4, 1, 1, 1, 1, 1, 1, 1},
                           {2, 1, 400, 1, 25, 1, 10, 1}};
  for (const windows& w : table) {
    for (const layout how :
         {layout::contiguous, layout::padded, layout::offset, layout::transposed}) {
      for (const auto kind : support::every_class) {
        const shape_case c{w.count(), w.window(), w.height, how, kind};
        everywhere(op, c.text(),
                   [&](const auto& b, auto type) { return check<decltype(type)>(b, w, c); });
      }
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("unfold: the gradient by differences") {
  on_both([](const auto& b) {
    const windows w{2, 2, 5, 4, 3, 2, 2, 1};
    const shape_case c{w.images * w.channels * w.height, w.width};
    const reals x = drawn<double>(c, w.size(), " x");
    const reals weights = support::loss_weights(w.count() * w.window());
    const auto loss = [&](const reals& moved) {
      sheet<double> from(c.rows, c.columns, c.how, moved), to(w.count(), w.window(), c.how);
      ds::ops::unfold(b, images(from, w), spec_of(w), to.matrix());
      return support::weighted_sum(weights, to.values());
    };
    sheet<double> dy(w.count(), w.window(), c.how, weights), dx(c.rows, c.columns, c.how);
    ds::ops::unfold_backward(b, dy.matrix(), spec_of(w), images(dx, w));
    support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
  });
}

TEST_CASE("unfold: zero sizes and errors") {
  on_both([](const auto& b) {
    float data[48] = {};
    using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn>;
    using flat = ds::view<float, ds::host, ds::dyn, ds::dyn>;
    const ds::unfold_spec two{2, 2, 2, 2};
    ds::ops::unfold(b, cube(data, {0, 1, 4, 4}), two, flat(data, {0, 4}));
    ds::ops::unfold_backward(b, flat(data, {0, 4}), two, cube(data, {0, 1, 4, 4}));
    CHECK(data[0] == 0);
    const cube x(data, {1, 1, 4, 4});
    CHECK_ERROR(ds::error_code::shape_mismatch, "unfold: windows[4, 3]", "pass [4, 4]",
                ds::ops::unfold(b, x, two, flat(data + 16, {4, 3})));
    CHECK_ERROR(ds::error_code::shape_mismatch, "unfold: a window of 5 x 2", "x[1, 1, 4, 4]",
                ds::ops::unfold(b, x, ds::unfold_spec{5, 2, 1, 1}, flat(data + 16, {1, 10})));
    CHECK_ERROR(ds::error_code::invalid_argument, "unfold: windows of 2 x 0", ">= 1",
                ds::ops::unfold(b, x, ds::unfold_spec{2, 0, 1, 1}, flat(data + 16, {1, 10})));
    CHECK_ERROR(ds::error_code::invalid_argument, "unfold_backward", "null",
                ds::ops::unfold_backward(b, flat(nullptr, {4, 4}), two, x));
  });
  facets(op, {"zero", "errors"});
}
