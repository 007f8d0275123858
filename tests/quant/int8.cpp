// SPDX-License-Identifier: Apache-2.0
// The int8 weight by itself: layout, codes, scales and sums against the oracle, sizes, bad values.
#include "deepseek/quant/int8.hpp"

#include "deepseek/quant/int8_weight.hpp"
#include "oracle/golden.hpp"
#include "oracle/quantized.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <set>

namespace ds = deepseek;

namespace {

template <class F, class T, class S, ds::index_t O, ds::index_t I>
using weight_of = typename F::template weight<T, S, O, I>;

ds::observed_range observed(double low, double high) {
  return {{low, high}, {low, high}, 1};
}

template <class T, class S, ds::index_t O, ds::index_t I>
auto drawn(support::values kind, const std::string& name) {
  ds::tensor<T, S, O, I> w;
  support::numbers from(name);
  const auto all = support::draw(kind, static_cast<std::size_t>(w.size()), from);
  for (ds::index_t i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<T>(all[static_cast<std::size_t>(i)]);
  }
  return w;
}

// Codes, scale and sum of every channel of every expert are the oracle's.
template <class T, class Real, class S, ds::index_t O, ds::index_t I>
void expect_weight(support::values kind) {
  const std::string name = support::text("values", support::to_string(kind), "out", O, "in", I,
                                         "bytes", static_cast<int>(sizeof(T)));
  const auto plain = drawn<T, S, O, I>(kind, name);
  weight_of<ds::w8a8, T, S, O, I> w;
  ds::make_weight(ds::w8a8{}, plain, observed(-1, 1), w);
  std::vector<Real> reals;
  for (ds::index_t i = 0; i < plain.size(); ++i) {
    reals.push_back(static_cast<Real>(plain.data()[i]));
  }
  auto expected = oracle::quantize_weights(reals, static_cast<std::size_t>(I));
  int wrong = 0;
  for (ds::index_t row = 0; row < w.experts * O; ++row) {
    const ds::index_t e = row / O, n = row % O;
    const auto r = static_cast<std::size_t>(row);
    wrong += w.scale.data()[row] != static_cast<float>(expected.scales[r]);
    std::int32_t sum = 0;
    for (ds::index_t k = 0; k < I; ++k) {
      const std::int8_t q = w.q.data()[e * w.layout.size() + w.layout.at(n, k)];
      sum += q;
      // In double the oracle divides by the scale before it is rounded to float: only ties differ.
      wrong += q != expected.codes[r * static_cast<std::size_t>(I) + static_cast<std::size_t>(k)];
    }
    wrong += w.sum.data()[row] != sum;
  }
  CHECK_MESSAGE(wrong == 0, name);
}

}  // namespace

TEST_CASE("layout: every (column, step) has a byte of its own, groups of four are together") {
  for (ds::index_t n : {1, 2, 7, 31, 32, 33, 63, 64, 65, 100, 192}) {
    for (ds::index_t k : {0, 1, 3, 4, 5, 8, 63}) {
      const ds::int8_layout at{n, k};
      std::set<ds::index_t> seen;
      bool together = true;
      for (ds::index_t c = 0; c < n; ++c) {
        for (ds::index_t s = 0; s < k; ++s) {
          seen.insert(at.at(c, s));
          together = together && at.at(c, s) == at.at(c, s / 4 * 4) + s % 4;
        }
      }
      CHECK(static_cast<ds::index_t>(seen.size()) == n * k);
      CHECK(together);
      CHECK((seen.empty() || (*seen.begin() == 0 && *seen.rbegin() < n * at.depth())));
      CHECK(at.size() >= n * at.depth() + ds::int8_layout::register_bytes);
      CHECK(at.size() % ds::int8_layout::alignment == 0);
    }
  }
}

TEST_CASE("codes, scales and sums are the oracle's") {
  for (support::values kind : support::every_class) {
    expect_weight<float, float, ds::host, 33, 7>(kind);
    expect_weight<float, float, ds::host, 64, 130>(kind);
    expect_weight<ds::bf16, float, ds::host, 5, 32>(kind);
    expect_weight<ds::f16, float, ds::host, 5, 32>(kind);
    expect_weight<double, double, ds::host, 17, 9>(kind);
    expect_weight<float, float, ds::stacked<3, ds::host>, 33, 10>(kind);
  }
}

TEST_CASE("golden values") {
  namespace g = oracle::golden::int8;
  ds::tensor<float, ds::host, 1, 4> plain;
  for (ds::index_t i = 0; i < 4; ++i) {
    plain.data()[i] = static_cast<float>(g::w[static_cast<std::size_t>(i)]);
  }
  weight_of<ds::w8a8, float, ds::host, 1, 4> w;
  ds::make_weight(ds::w8a8{}, plain, observed(g::x.front(), g::x.back()), w);
  for (ds::index_t k = 0; k < 4; ++k) {
    const auto i = static_cast<std::size_t>(k);
    CHECK(w.q.data()[w.layout.at(0, k)] == g::weight_codes[i]);
    CHECK(ds::int8_code(static_cast<float>(g::x[i]), {w.x_scale.data()[0], w.x_zero.data()[0]}) ==
          g::codes[i]);
  }
  CHECK(std::fabs(static_cast<double>(w.scale.data()[0]) - g::weight_scale) < 1e-9);
  CHECK(std::fabs(static_cast<double>(w.x_scale.data()[0]) - g::activation_scale) < 1e-9);
  CHECK(w.x_zero.data()[0] == g::zero);
}

TEST_CASE_TEMPLATE("at most 0.27 of fp32 from width 192 on, also in a stack", Format, ds::w8a8,
                   ds::w8a8_per_token) {
  const auto ratio = [](const auto& w, double plain) {
    double bytes = 0;
    ds::visit(
        [&](const ds::tensor_name&, const auto& t) {
          bytes += static_cast<double>(t.size()) *
                   sizeof(typename std::remove_cvref_t<decltype(t)>::value_type);
        },
        w);
    return bytes / plain;
  };
  CHECK(ratio(weight_of<Format, float, ds::host, 192, 192>{}, 4.0 * 192 * 192) <= 0.27);
  CHECK(ratio(weight_of<Format, float, ds::host, 193, 193>{}, 4.0 * 193 * 193) <= 0.27);
  CHECK(ratio(weight_of<Format, float, ds::host, 259, 256>{}, 4.0 * 259 * 256) <= 0.27);
  CHECK(ratio(weight_of<Format, float, ds::stacked<8, ds::host>, 192, 256>{},
              8 * 4.0 * 192 * 256) <= 0.27);
}

TEST_CASE("ranges: zero is exact, nothing divides by zero, nothing overflows") {
  struct range_case {
    float low, high;
  };
  const float most = std::numeric_limits<float>::max(), least = 1e-45F;
  for (const range_case c : {range_case{0, 0},
                             {-1, 0},
                             {0, 1},
                             {-1, 1},
                             {-0.5F, 2.05F},
                             {-most, most},
                             {0, least},
                             {-least, 0},
                             {-1e-40F, 3e-40F},
                             {-1e-3F, 1e6F},
                             {0, most}}) {
    const ds::int8_range r = ds::int8_range_of(c.low, c.high);
    CHECK(r.scale > 0);
    CHECK(std::isfinite(r.scale));
    CHECK((r.zero >= 0 && r.zero <= 255));
    CHECK(ds::int8_code(0.0F, r) == r.zero);
    for (float x : {c.low, c.high, c.high / 2}) {
      const double back = (ds::int8_code(x, r) - r.zero) * static_cast<double>(r.scale);
      // Half a step inside the range, and one where the zero point was rounded at its end.
      CHECK(std::fabs(back - static_cast<double>(x)) <= 1.001 * static_cast<double>(r.scale));
    }
  }
  CHECK(ds::int8_code(INFINITY, {0.1F, 7}) == 255);
  CHECK(ds::int8_code(-INFINITY, {0.1F, 7}) == 0);
  CHECK(ds::int8_code(1e30F, {0.1F, 7}) == 255);
  CHECK(ds::int8_code(2.5F, {1, 0}) == 2);  // ties to even
  CHECK(ds::int8_code(3.5F, {1, 0}) == 4);
  CHECK_ERROR(ds::error_code::nonfinite, "1e+300", ds::int8_range_of(0.0, 1e300));
}

TEST_CASE("bad weights are named; a static format wants a calibration") {
  ds::tensor<float, ds::host, 4, 5> plain;
  weight_of<ds::w8a8, float, ds::host, 4, 5> w;
  for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    plain.view()(3, 2) = bad;
    CHECK_ERROR(ds::error_code::nonfinite, "w8a8", "[0, 3, 2]",
                ds::make_weight(ds::w8a8{}, plain, observed(0, 1), w));
  }
  plain.view()(3, 2) = 0;
  CHECK_ERROR(ds::error_code::invalid_argument, "never calibrated", "w8a8_per_token",
              ds::make_weight(ds::w8a8{}, plain, {}, w));
  ds::tensor<double, ds::stacked<2, ds::host>, 4, 5> wide;
  weight_of<ds::w8a8_dynamic, double, ds::stacked<2, ds::host>, 4, 5> w2;
  wide.data()[27] = 1e300;
  CHECK_ERROR(ds::error_code::nonfinite, "w8a8_dynamic", "[1, 1, 2]",
              ds::make_weight(ds::w8a8_dynamic{}, wide, {}, w2));
  wide.data()[27] = 1e-320;  // a scale that is zero in float becomes one
  ds::make_weight(ds::w8a8_dynamic{}, wide, {}, w2);
  CHECK(w2.scale.data()[5] == 1);
}

TEST_CASE("calibration: extremes and moving average") {
  ds::observed_range seen;
  const float a[] = {1, -2, 3, 4}, c[] = {-10, 1, 2, 3};
  const ds::view<const float, ds::host, ds::dyn, ds::dyn> first(a, {2, 2}), second(c, {2, 2});
  ds::observe_range(ds::view<const float, ds::host, ds::dyn, ds::dyn>(a, {0, 2}), seen);
  CHECK(seen.calls == 0);
  ds::observe_range(first, seen);
  ds::observe_range(second, seen);
  CHECK(seen.calls == 2);
  CHECK(ds::min_max::limits(seen).low == -10);
  CHECK(ds::min_max::limits(seen).high == 4);
  CHECK(std::fabs(ds::moving_average::limits(seen).low - (-2 * 0.99 - 0.1)) < 1e-12);
  CHECK(std::fabs(ds::moving_average::limits(seen).high - (4 * 0.99 + 0.03)) < 1e-12);
  const float bad[] = {1, std::nanf("")};
  CHECK_ERROR(
      ds::error_code::nonfinite, "calibration", "[0, 1]",
      ds::observe_range(ds::view<const float, ds::host, ds::dyn, ds::dyn>(bad, {1, 2}), seen));
  ds::tensor<float, ds::host, 2, 2> plain;
  weight_of<ds::w8a8_averaged, float, ds::host, 2, 2> w;
  ds::make_weight(ds::w8a8_averaged{}, plain, seen, w);
  CHECK(std::fabs(static_cast<double>(w.x_scale.data()[0]) - (2.08 + 3.99) / 255) < 1e-8);
}
