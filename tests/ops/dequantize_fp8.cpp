// SPDX-License-Identifier: Apache-2.0
// dequantize_fp8: all 256 codes times scales, in every type, any strides; what quantize_fp8 wrote;
// zero sizes and errors.
#include "deepseek/ops/dequantize_fp8.hpp"

#include "deepseek/backend/cpu/dequantize_fp8.hpp"

#include "ops/table.hpp"

using namespace table;

namespace {

constexpr const char* op = "dequantize_fp8";

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  ds::tensor<ds::f8_e4m3, ds::host, ds::dyn, ds::dyn> codes(
      {static_cast<ds::index_t>(c.rows), static_cast<ds::index_t>(c.columns)});
  const std::size_t tiles = (c.columns + 127) / 128;
  const auto scales = support::as<float>(drawn<float>(c, c.rows * tiles, " scale"));
  sheet<float> scale(c.rows, tiles, c.how, scales);
  sheet<T> y(c.rows, c.columns, c.how);
  for (std::size_t i = 0; i < c.size(); ++i) {
    codes.data()[i] = ds::f8_e4m3::from_bits(static_cast<std::uint8_t>(i * 7 + c.rows));
  }
  ds::ops::dequantize_fp8(b, ds::fp8_rows{codes, scale.matrix()}, y.matrix());
  const auto got = y.values();
  bool right = y.clean() && scale.unchanged();
  for (std::size_t i = 0; i < c.size(); ++i) {
    const int code = codes.data()[i].bits, exponent = code >> 3 & 15, fraction = code & 7;
    double value =
        exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    if (code > 127) value = -value;
    const float product = static_cast<float>(
        value * static_cast<double>(scales[i / c.columns * tiles + i % c.columns / 128]));
    const double x = support::to_double(got[i]);
    right = right && ((code & 127) == 127 ? std::isnan(x)
                                          : x == support::to_double(static_cast<T>(product)));
  }
  support::expect_true(op, where<T>(b, c), right, "not code times scale");
  return got;
}

}  // namespace

TEST_CASE("dequantize_fp8: table of cases") {
  for (const shape_case& c : shape_cases({1, 3, 40}, {1, 7, 16, 33, 127, 128, 129, 512})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  facets(op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("dequantize_fp8: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<ds::f8_e4m3, ds::host, ds::dyn, ds::dyn> q({2, 130}), none({0, 130});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> s({2, 2}), one({2, 1}), no_s({0, 2}), y({2, 130}),
        short_y({2, 129}), no_y({0, 130});
    ds::ops::dequantize_fp8(b, ds::fp8_rows{none, no_s}, no_y);
    using code = ds::error_code;
    CHECK_ERROR(code::shape_mismatch, "dequantize_fp8: scales[2, 1]", "expected 2",
                ds::ops::dequantize_fp8(b, ds::fp8_rows{q, one}, y));
    CHECK_ERROR(code::shape_mismatch, "dequantize_fp8: codes[2, 130]", "expected 129",
                ds::ops::dequantize_fp8(b, ds::fp8_rows{q, s}, short_y));
    const ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {2, 2});
    CHECK_ERROR(code::invalid_argument, "scales[2, 2]", "null",
                ds::ops::dequantize_fp8(b, ds::fp8_rows{q, null}, y));
  });
  facets(op, {"zero", "errors"});
}
