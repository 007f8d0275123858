// SPDX-License-Identifier: Apache-2.0
// kl_divergence against its formula in long double, its gradient against differences and the
// formula; hidden (-inf) logits, rows of zeros, aliases, zero sizes, errors.
#include "deepseek/ops/kl_divergence.hpp"

#include "deepseek/backend/cpu/kl_divergence.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;

namespace {

constexpr const char* op = "kl_divergence";
constexpr double infinity = std::numeric_limits<double>::infinity();

struct example {
  reals p, logits;
};

// Every third logit is hidden, every fourth row of p is zero.
template <class T>
example drawn_example(const shape_case& c) {
  example e{drawn_normal<T>(c, c.size(), " p"), drawn_normal<T>(c, c.size(), " logits")};
  for (std::size_t i = 0; i < c.rows; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < c.columns; ++j) {
      double& p = e.p[i * c.columns + j];
      const bool hidden = j % 3 == 2;
      p = hidden || i % 4 == 3 ? 0 : std::exp(p);
      sum += p;
      if (hidden) e.logits[i * c.columns + j] = -infinity;
    }
    for (std::size_t j = 0; j < c.columns && sum > 0; ++j) e.p[i * c.columns + j] /= sum;
  }
  e.p = support::rounded_to<T>(e.p);
  return e;
}

// The mean over rows, and its gradient.
struct expectation {
  double value = 0;
  reals gradient;
};
expectation expected(const example& e, const shape_case& c, double factor) {
  expectation out{0, reals(c.size())};
  for (std::size_t i = 0; i < c.rows; ++i) {
    long double total = 0, given = 0, sum = 0;
    for (std::size_t j = 0; j < c.columns; ++j) {
      total += std::exp(static_cast<long double>(e.logits[i * c.columns + j]));
      given += e.p[i * c.columns + j];
    }
    for (std::size_t j = 0; j < c.columns; ++j) {
      const long double p = e.p[i * c.columns + j], x = e.logits[i * c.columns + j];
      if (p > 0) sum += p * (std::log(p) - x + std::log(total));
      const long double share = given > 0 ? std::exp(x) / total * given : 0;
      out.gradient[i * c.columns + j] =
          static_cast<double>((share - p) * factor / static_cast<long double>(c.rows));
    }
    out.value += static_cast<double>(sum) / static_cast<double>(c.rows);
  }
  return out;
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const auto e = drawn_example<T>(c);
  const auto want = expected(e, c, 3);
  sheet<T> p(c.rows, c.columns, c.how, e.p), x(c.rows, c.columns, c.how, e.logits),
      dx(c.rows, c.columns, c.how);
  const double value = ds::ops::kl_divergence(b, p.matrix(), x.matrix());
  const double unit = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;
  support::expect_true(op, where<T>(b, c),
                       std::fabs(value - want.value) <= 256 * unit * (1 + std::fabs(want.value)),
                       "another value");
  ds::ops::kl_divergence_gradient(b, p.matrix(), x.matrix(), dx.matrix(), 3);
  auto allowed = support::softmax_limits(type_of<T>, c.columns);
  allowed.relative += 64 * unit;
  allowed.c = -1;
  judge("kl_divergence_gradient", where<T>(b, c), allowed, want.gradient, dx.values(), c.size());
  support::expect_true(op, "memory " + where<T>(b, c), p.unchanged() && x.unchanged() && dx.clean(),
                       "an input or memory around the gradient was written");
  const auto got = dx.values();
  ds::ops::kl_divergence_gradient(b, p.matrix(), x.matrix(), x.matrix(), 3);
  support::expect_true("kl_divergence_gradient", "over logits " + where<T>(b, c),
                       support::same_bits(x.values(), got), "dlogits over logits differs");
  return got;
}

template <class B>
void check_gradient(const B& b) {
  const shape_case c{5, 7, 0, layout::padded};
  const auto e = drawn_example<double>(c);
  reals x = e.logits, shown;
  for (double v : x) {
    if (v != -infinity) shown.push_back(v);
  }
  const auto spread = [&](const reals& moved) {
    std::size_t at = 0;
    for (double& v : x) v = v == -infinity ? v : moved[at++];
    return x;
  };
  const auto loss = [&](const reals& moved) {
    sheet<double> p(c.rows, c.columns, c.how, e.p), from(c.rows, c.columns, c.how, spread(moved));
    return ds::ops::kl_divergence(b, p.matrix(), from.matrix());
  };
  sheet<double> p(c.rows, c.columns, c.how, e.p), from(c.rows, c.columns, c.how, e.logits),
      dx(c.rows, c.columns, c.how);
  ds::ops::kl_divergence_gradient(b, p.matrix(), from.matrix(), dx.matrix(), 1);
  reals g;
  const auto all = dx.values();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (e.logits[i] != -infinity) g.push_back(all[i]);
    if (e.logits[i] == -infinity) CHECK(all[i] == 0);
  }
  support::expect_gradient("kl_divergence_gradient", c.text(),
                           support::check_gradient(loss, shown, g));
}

}  // namespace

TEST_CASE("kl_divergence: table of cases") {
  for (const shape_case& c : shape_cases({1, 2, 5, 33}, {1, 2, 7, 16, 17, 64, 130})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) { check_gradient(b); });
  facets(op, {"forward", "strides"});
  facets("kl_divergence_gradient", {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("kl_divergence: equal distributions, zero sizes, errors") {
  on_both([](const auto& b) {
    ds::tensor<double, ds::host, ds::dyn, ds::dyn> p({1, 4}), x({1, 4}), none({0, 4}),
        other({1, 3}), dx({1, 4});
    for (ds::index_t j = 0; j < 4; ++j) {
      p.data()[j] = 0.25;
      x.data()[j] = 700;  // no exponential may overflow
    }
    CHECK(std::fabs(ds::ops::kl_divergence(b, p, x)) < 1e-15);
    ds::ops::kl_divergence_gradient(b, p, x, dx, 1);
    for (ds::index_t j = 0; j < 4; ++j) CHECK(std::fabs(dx.data()[j]) < 1e-15);
    CHECK(ds::ops::kl_divergence(b, none, none) == 0);
    ds::ops::kl_divergence_gradient(b, none, none, none, 1);
    using code = ds::error_code;
    CHECK_ERROR(code::shape_mismatch, "kl_divergence: logits[1, 3]",
                ds::ops::kl_divergence(b, p, other));
    CHECK_ERROR(code::shape_mismatch, "kl_divergence_gradient: dlogits[1, 3]",
                ds::ops::kl_divergence_gradient(b, p, x, other, 1));
    CHECK_ERROR(code::invalid_argument, "factor is",
                ds::ops::kl_divergence_gradient(b, p, x, dx, infinity));
  });
  facets(op, {"zero", "errors"});
  facets("kl_divergence_gradient", {"zero", "errors"});
}
