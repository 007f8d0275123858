// SPDX-License-Identifier: Apache-2.0
// head_mask and its backward against their formulas in long double, on every backend, type and
// stride; gradients of the soft mask against differences; limits, NaN, zero sizes, errors.
#include "deepseek/ops/head_mask.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "ops/table.hpp"

using namespace table;

namespace {

constexpr const char* op = "head_mask";

long double sigmoid(long double x) {
  return 1 / (1 + std::exp(-x));
}
double mask_of(double g, std::size_t h, std::size_t heads, const ds::head_mask_rule& rule) {
  const double all = static_cast<double>(heads), at = static_cast<double>(h);
  if (rule.edge == ds::mask_edge::soft) {
    return static_cast<double>(
        sigmoid((all * static_cast<long double>(g) - at) / rule.temperature));
  }
  return at < std::fmin(std::fmax(std::round(all * g), 1), all) ? 1 : 0;
}

// Gates in [0, 1] that are exact in every type: no product of theirs is near a half by rounding.
reals gates(std::size_t n) {
  reals g(n);
  for (std::size_t i = 0; i < n; ++i) g[i] = static_cast<double>(i * 37 % 65) / 64;
  return g;
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c, const ds::head_mask_rule& rule) {
  const std::size_t heads = c.columns;
  const reals g = gates(c.rows);
  const reals dy = drawn_normal<T>(c, c.size(), " dy");
  sheet<T> gate(c.rows, 1, c.how, g), mask(c.rows, heads, c.how), dmask(c.rows, heads, c.how, dy),
      dg(c.rows, 1, c.how);
  ds::ops::head_mask(b, gate.matrix(), mask.matrix(), rule);
  ds::ops::head_mask_backward(b, gate.matrix(), dmask.matrix(), dg.matrix(), rule);
  reals want(c.size()), slope(c.rows), size(c.rows);
  for (std::size_t i = 0; i < c.rows; ++i) {
    for (std::size_t h = 0; h < heads; ++h) {
      const double all = static_cast<double>(heads);
      want[i * heads + h] = mask_of(g[i], h, heads, rule);
      const double s = mask_of(g[i], h, heads, {ds::mask_edge::soft, rule.temperature});
      const double term = dy[i * heads + h] * all / rule.temperature * s * (1 - s);
      slope[i] += term, size[i] += std::fabs(term);
    }
  }
  const std::string text = where<T>(b, c) + (rule.edge == ds::mask_edge::hard ? " hard" : " soft");
  if (rule.edge == ds::mask_edge::hard) {
    judge(op, text, support::exact(type_of<T>), want, mask.values(), heads);
  } else {
    judge(op, text, support::elementwise_limits(type_of<T>, 64), want, mask.values(), heads);
  }
  auto allowed = support::gemm_limits(type_of<T>, 64 * heads);
  judge("head_mask_backward", text, allowed, slope, dg.values(), c.rows, size);
  support::expect_true(op, "memory " + text,
                       gate.unchanged() && dmask.unchanged() && mask.clean() && dg.clean(),
                       "an input or memory around an output was written");
  return joined(mask.values(), dg.values());
}

}  // namespace

TEST_CASE("head_mask: every backend, type and stride") {
  for (const shape_case& c : shape_cases({1, 2, 17, 65}, {1, 2, 4, 7, 64})) {
    for (const auto edge : {ds::mask_edge::hard, ds::mask_edge::soft}) {
      everywhere(op, c.text(), [&](const auto& b, auto type) {
        return check<decltype(type)>(b, c, {edge, 0.75});
      });
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("head_mask: gradients of the soft mask") {
  const ds::reference b;
  const ds::head_mask_rule rule{ds::mask_edge::soft, 0.6};
  for (const std::size_t heads : {std::size_t{1}, std::size_t{5}}) {
    reals g = {0.1, 0.55, 0.8, 0.97};
    const auto weights = support::loss_weights(4 * heads);
    const auto sheet_of = [](reals& v, std::size_t columns) {
      return ds::view<double, ds::host, ds::dyn, ds::dyn>(v.data(),
                                                          {4, static_cast<ds::index_t>(columns)});
    };
    const auto loss = [&](const reals& at) {
      reals gate = at, mask(4 * heads);
      ds::ops::head_mask(b, sheet_of(gate, 1), sheet_of(mask, heads), rule);
      return support::weighted_sum(weights, mask);
    };
    reals dmask = weights, dg(4);
    ds::ops::head_mask_backward(b, sheet_of(g, 1), sheet_of(dmask, heads), sheet_of(dg, 1), rule);
    support::expect_gradient(op, support::text("heads", heads),
                             support::check_gradient(loss, g, dg));
  }
}

TEST_CASE("head_mask: limits, NaN, zero sizes, errors") {
  on_both([](const auto& b) {
    const ds::tensor<float, ds::host, ds::dyn, ds::dyn> nothing({0, 1}), wide({3, 2});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> g({3, 1}), mask({3, 4}), none_left({0, 4});
    ds::ops::head_mask(b, nothing, none_left);
    g.data()[0] = 0, g.data()[1] = 1, g.data()[2] = std::nanf("");
    ds::ops::head_mask(b, g, mask);
    for (int h = 0; h < 4; ++h) {
      CHECK(mask.data()[h] == (h == 0 ? 1.0F : 0.0F));
      CHECK(mask.data()[4 + h] == 1.0F);
      CHECK(std::isnan(mask.data()[8 + h]));
    }
    using code = ds::error_code;
    CHECK_ERROR(code::shape_mismatch, "head_mask: g[3, 2]", ds::ops::head_mask(b, wide, mask));
    CHECK_ERROR(code::shape_mismatch, "head_mask: mask[0, 4]", ds::ops::head_mask(b, g, none_left));
    CHECK_ERROR(code::invalid_argument, "temperature is 0",
                ds::ops::head_mask(b, g, mask, {ds::mask_edge::soft, 0}));
    CHECK_ERROR(code::shape_mismatch, "head_mask_backward: dg[0, 1]",
                ds::ops::head_mask_backward(
                    b, g, mask, ds::tensor<float, ds::host, ds::dyn, ds::dyn>({0, 1}).view()));
  });
  facets(op, {"zero", "errors"});
}
