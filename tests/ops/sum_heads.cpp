// SPDX-License-Identifier: Apache-2.0
// sum_heads against plain sums in double: sizes, strides, types, no heads; errors.
#include "deepseek/ops/sum_heads.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/sum_heads.hpp"

#include "ops/attention_case.hpp"

namespace ds = deepseek;
using attention_test::array;
using ds::index_t;

namespace {

template <class T>
void check(index_t n, index_t h, index_t d, attention_test::layout how) {
  const ds::cpu b;
  support::numbers from(support::text("n", n, "h", h, "d", d));
  const auto size = static_cast<std::size_t>(n * h * d);
  const auto x = support::rounded_to<T>(support::draw(support::values::normal, size, from));
  array<T> in(x, n, h, d, how), out(n, 1, d, how);
  const auto y = out.get();
  ds::ops::sum_heads(
      b, in.get(),
      ds::view<T, ds::host, ds::dyn, ds::dyn>(y.data(), {n, d}, {y.stride(0), y.stride(2)}));
  std::vector<double> r, magnitude;
  for (index_t t = 0; t < n; ++t) {
    for (index_t i = 0; i < d; ++i) {
      double sum = 0, all = 0;
      for (index_t k = 0; k < h; ++k) {
        sum += x[static_cast<std::size_t>((t * h + k) * d + i)];
        all += std::fabs(x[static_cast<std::size_t>((t * h + k) * d + i)]);
      }
      r.push_back(sum);
      magnitude.push_back(all);
    }
  }
  auto allowed = support::gemm_limits(ds::dtype_of<T>, static_cast<std::size_t>(h));
  allowed.zeros = 1;
  allowed.trust_equal = true;
  support::expect(
      "sum_heads", support::text("n", n, "h", h, "d", d),
      support::compare(allowed, out.values(), r, static_cast<std::size_t>(d), magnitude));
  CHECK((in.unchanged() && in.intact() && out.intact()));
}

}  // namespace

TEST_CASE_TEMPLATE("sum_heads: sizes, strides", T, double, float, ds::bf16, ds::f16) {
  for (const auto how : attention_test::layouts) {
    for (const index_t h : {0, 1, 2, 17}) {
      check<T>(3, h, 5, how);
      check<T>(1, h, 64, how);
    }
  }
  support::facet("sum_heads", "forward");
  support::facet("sum_heads", "strides");
  support::facet("sum_heads", "zero");
}

TEST_CASE("sum_heads: its gradient is a copy to every head") {
  // sum_heads is linear: <w, sum_heads(x)> = <copy of w to every head, x>.
  const ds::cpu b;
  const auto x = support::loss_weights(24), w = support::loss_weights(8, 5);
  std::vector<double> y(8);
  const ds::view<const double, ds::host, ds::dyn, ds::dyn, ds::dyn> v(x.data(), {2, 3, 4});
  ds::ops::sum_heads(b, v, ds::view<double, ds::host, ds::dyn, ds::dyn>(y.data(), {2, 4}));
  double left = 0, right = 0;
  for (std::size_t i = 0; i < 8; ++i) left += w[i] * y[i];
  for (std::size_t i = 0; i < 24; ++i) right += w[i / 12 * 4 + i % 4] * x[i];
  CHECK(left == doctest::Approx(right).epsilon(1e-14));
}

TEST_CASE("sum_heads: errors") {
  const ds::cpu b;
  float data[12] = {};
  using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  using table = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  const auto& op = ds::ops::sum_heads;
  CHECK_ERROR(ds::error_code::shape_mismatch, "x[2, 3, 2]", "expected 1",
              op(b, cube(data, {2, 3, 2}), table(data, {1, 2})));
  CHECK_ERROR(ds::error_code::shape_mismatch, "x[2, 3, 2]", "expected 4",
              op(b, cube(data, {2, 3, 2}), table(data, {2, 4})));
  CHECK_ERROR(ds::error_code::invalid_argument, "x[2, 3, 2]", "null",
              op(b, cube(nullptr, {2, 3, 2}), table(data, {2, 2})));
  support::facet("sum_heads", "errors");
  support::not_applicable("sum_heads", "gradient");  // it is one: that of a row shared by heads
}
