// SPDX-License-Identifier: Apache-2.0
// dropout: the documented bits on every backend, type and stride; its share; its backward.
#include "deepseek/ops/dropout.hpp"

#include "deepseek/backend/cpu/dropout.hpp"

#include "ops/table.hpp"

#include <limits>

using namespace table;

namespace {

constexpr const char* op = "dropout";

ds::dropout_spec spec_of(const shape_case& c) {
  constexpr double rates[] = {0, 0.1, 0.5, 0.9, 1 - 0x1p-40};
  return {rates[c.extra], 0x123456789abcdefULL, 0x100000002ULL + c.rows, 77};
}

// The layout of the header, straight from Philox.
bool kept_by_definition(const ds::dropout_spec& s, std::uint64_t e) {
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32U); };
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto words = ds::philox({low(s.seed), high(s.seed) ^ 0x44524F50U},
                                {low(e / 4), high(s.step) + high(e / 4), s.site, low(s.step)});
  return words[low(e % 4)] >= static_cast<std::uint64_t>(std::floor(s.rate * 4294967296.0));
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  using A = ds::accumulate_t<T>;
  const ds::dropout_spec spec = spec_of(c);
  std::vector<T> x = support::as<T>(drawn<T>(c, c.size(), " x")), want;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool kept = kept_by_definition(spec, i);
    if (kept != ds::dropout_keeps(spec, static_cast<ds::index_t>(i))) return {};
    if (!kept && i % 3 == 0) x[i] = static_cast<T>(std::nan(""));
    const A grown = static_cast<A>(1 / (1 - spec.rate));
    want.push_back(kept ? static_cast<T>(static_cast<A>(x[i]) * grown) : static_cast<T>(0.0F));
  }
  sheet<T> from(c.rows, c.columns, c.how, x), y(c.rows, c.columns, c.how),
      over(c.rows, c.columns, c.how, x);
  ds::ops::dropout(b, from.matrix(), y.matrix(), spec);
  ds::ops::dropout_backward(b, over.matrix(), over.matrix(), spec);
  support::expect_true(op, where<T>(b, c),
                       support::same_bits(y.values(), want) && from.unchanged() && y.clean() &&
                           support::same_bits(over.values(), want) && over.clean(),
                       "not the documented mask, or y over x differs");
  return y.values();
}

}  // namespace

TEST_CASE("dropout: table of cases") {
  for (const shape_case& c : shape_cases(
           {1, 2, 3, 17, 64, 150}, {1, 2, 3, 5, 15, 16, 63, 64, 65, 130, 257}, {0, 1, 2, 3, 4})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("dropout: gradient by differences") {
  on_both([](const auto& b) {
    const shape_case c{5, 13, 2, layout::padded};
    const reals x = drawn<double>(c, c.size(), " x"), weights = support::loss_weights(c.size());
    const auto loss = [&](const reals& moved) {
      sheet<double> from(5, 13, c.how, moved), y(5, 13, c.how);
      ds::ops::dropout(b, from.matrix(), y.matrix(), spec_of(c));
      return support::weighted_sum(weights, y.values());
    };
    sheet<double> dy(5, 13, c.how, weights), dx(5, 13, c.how);
    ds::ops::dropout_backward(b, dy.matrix(), dx.matrix(), spec_of(c));
    support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
  });
}

TEST_CASE("dropout: the share of a million, other steps and sites") {
  const ds::cpu b{ds::cpu_config{2}};
  constexpr ds::index_t n = 1000000;
  ds::tensor<float, ds::host, ds::dyn> x({n}), y({n}), z({n});
  for (ds::index_t i = 0; i < n; ++i) x.data()[i] = 1;
  for (double rate : {0.1, 0.5, 0.8}) {
    ds::dropout_spec spec{rate, 5, 9, 3};
    ds::ops::dropout(b, x, y, spec);
    double kept = 0;
    for (ds::index_t i = 0; i < n; ++i) kept += y.data()[i] != 0;
    const double z_score = (kept - n * (1 - rate)) / std::sqrt(n * rate * (1 - rate));
    support::expect_true(op, support::text("rate", rate), std::fabs(z_score) < 5,
                         support::text("z", z_score));
    for (int what = 0; what < 4; ++what) {
      ds::dropout_spec other = spec;
      (what == 0 ? other.seed : other.step) += what == 3 ? 0x100000000ULL : what < 2 ? 1 : 0;
      other.site += what == 2 ? 1U : 0U;
      ds::ops::dropout(b, x, z, other);
      double both = 0;
      for (ds::index_t i = 0; i < n; ++i) both += y.data()[i] != 0 && z.data()[i] != 0;
      const double p = (1 - rate) * (1 - rate), score = (both - n * p) / std::sqrt(n * p * (1 - p));
      support::expect_true(op, support::text("rate", rate, "other", what), std::fabs(score) < 5,
                           support::text("the masks are related, z", score));
    }
  }
}

TEST_CASE("dropout: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> none({0, 3}), x({2, 3}), y({2, 4});
    ds::ops::dropout(b, none, none, {.rate = 0.5});
    support::expect_true(op, "zero", none.size() == 0, "");
    for (double rate : {1.0, -0.1, 1e300, std::nan("")}) {
      CHECK_ERROR(ds::error_code::invalid_argument, "dropout: rate is", "[0, 1)",
                  ds::ops::dropout(b, x, x, {.rate = rate}));
    }
    CHECK_ERROR(ds::error_code::shape_mismatch, "dropout: x[2, 3]", "expected 4",
                ds::ops::dropout(b, x, y, {.rate = 0.5}));
  });
  facets(op, {"zero", "errors"});
}
