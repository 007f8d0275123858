// SPDX-License-Identifier: Apache-2.0
// 16-bit floats: every code both ways, and rounding against a second, double-based definition.
#include <deepseek/core/dtype.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>

using deepseek::bf16;
using deepseek::dtype;
using deepseek::f16;

namespace {

// The format written as numbers: what a code means, and rounding by nearbyint on the grid of the
// exponent.
template <class T>
struct format;
template <>
struct format<f16> {
  static constexpr int fraction = 10, bias = 15, top = 31;
};
template <>
struct format<bf16> {
  static constexpr int fraction = 7, bias = 127, top = 255;
};

template <class T>
double meaning(unsigned code) {
  using form = format<T>;
  const int exponent = static_cast<int>((code & 0x7fffU) >> form::fraction);
  const unsigned fraction = code & ((1U << form::fraction) - 1U);
  const double sign = (code & 0x8000U) != 0 ? -1 : 1;
  if (exponent == form::top) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  const double lead = exponent == 0 ? 0 : 1U << form::fraction;
  return sign * std::ldexp(lead + fraction, std::max(exponent, 1) - form::bias - form::fraction);
}

template <class T>
double rounded(double x) {
  using form = format<T>;
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), 1 - form::bias);
  const double step = std::ldexp(1, exponent - form::fraction);
  const double near = std::nearbyint(x / step) * step;
  const bool too_large = std::fabs(near) >= std::ldexp(1, form::top - form::bias);
  return too_large ? std::copysign(std::numeric_limits<double>::infinity(), x) : near;
}

bool same_number(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

float from_pattern(std::uint32_t pattern) {
  float x = 0;
  std::memcpy(&x, &pattern, sizeof x);
  return x;
}

template <class T>
bool rounds_right(double x) {
  return same_number(meaning<T>(T(x).bits), rounded<T>(x));
}

template <class T>
bool rounds_right(float x) {
  return same_number(meaning<T>(T(x).bits), rounded<T>(static_cast<double>(x)));
}

template <class T>
int wrong_codes() {
  int wrong = 0;
  for (unsigned code = 0; code < 65536; ++code) {
    const T x = T::from_bits(static_cast<std::uint16_t>(code));
    const float value = x;
    const T back = T(value);
    const bool is_nan = std::isnan(meaning<T>(code));
    const unsigned quiet = 1U << (format<T>::fraction - 1);
    const bool right = same_number(static_cast<double>(value), meaning<T>(code)) &&
                       back.bits == (is_nan ? code | quiet : code);
    wrong += right ? 0 : 1;
  }
  return wrong;
}

// Halfway points between neighbouring codes, and the floats (and doubles) just beside them.
template <class T>
int wrong_ties() {
  int wrong = 0;
  for (unsigned code = 0; code < 65535; ++code) {
    const double low = meaning<T>(code);
    double high = meaning<T>(code + 1);
    if ((code & 0x7fffU) == 0x7fffU || std::isnan(low) || std::isnan(high) || std::isinf(low)) {
      continue;
    }
    if (std::isinf(high))
      high = std::copysign(std::ldexp(1, format<T>::top - format<T>::bias), low);
    const double middle = (low + high) / 2;
    const auto tie = static_cast<float>(middle);
    for (float x : {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, 2 * tie)}) {
      wrong += rounds_right<T>(x) ? 0 : 1;
    }
    for (double x : {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 2 * middle)}) {
      wrong += rounds_right<T>(x) ? 0 : 1;  // a double that float rounds onto the tie
    }
  }
  return wrong;
}

template <class T>
int wrong_sample() {
  int wrong = 0;
  for (std::uint32_t high = 0; high < 65536; ++high) {
    // An odd low half that wanders, beside the plain multiple of 2^16.
    for (std::uint32_t low : {std::uint32_t{0}, (high * 40503U) & 0xffffU, std::uint32_t{0x8000}}) {
      wrong += rounds_right<T>(from_pattern((high << 16U) | low)) ? 0 : 1;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("every 16-bit code goes to float and back", T, f16, bf16) {
  CHECK(wrong_codes<T>() == 0);
}

TEST_CASE_TEMPLATE("rounding is to nearest, ties to even", T, f16, bf16) {
  CHECK(wrong_ties<T>() == 0);
  CHECK(wrong_sample<T>() == 0);
}

TEST_CASE("known codes") {
  CHECK(f16(1.0F).bits == 0x3c00);
  CHECK(f16(-2.0F).bits == 0xc000);
  CHECK(f16(65504.0F).bits == 0x7bff);
  CHECK(f16(65519.996F).bits == 0x7bff);
  CHECK(f16(65520.0F).bits == 0x7c00);
  CHECK(f16(0x1p-24F).bits == 0x0001);
  CHECK(f16(0x1p-25F).bits == 0x0000);
  CHECK(f16(-0.0F).bits == 0x8000);
  CHECK(bf16(1.0F).bits == 0x3f80);
  CHECK(bf16(0x1.01p0F).bits == 0x3f80);  // tie, to even
  CHECK(bf16(0x1.03p0F).bits == 0x3f82);
  CHECK(bf16(3.4e38F).bits == 0x7f80);
}

TEST_CASE("NaN stays a quiet NaN and keeps its sign") {
  for (std::uint32_t pattern : {0x7f800001U, 0x7fc00000U, 0xff800001U, 0xffffffffU}) {
    const float x = from_pattern(pattern);
    const unsigned sign = pattern >> 31U;
    CHECK(std::isnan(static_cast<float>(f16(x))));
    CHECK(std::isnan(static_cast<float>(bf16(x))));
    CHECK((f16(x).bits & 0x7e00U) == 0x7e00U);
    CHECK((bf16(x).bits & 0x7fc0U) == 0x7fc0U);
    CHECK((f16(x).bits >> 15U) == sign);
    CHECK((bf16(x).bits >> 15U) == sign);
  }
}

TEST_CASE("a double is rounded once, not twice") {
  const double just_above_tie = 1 + 0x1p-11 + 0x1p-40;  // float would drop the last term
  CHECK(f16(just_above_tie).bits == 0x3c01);
  CHECK(bf16(1 + 0x1p-8 + 0x1p-40).bits == 0x3f81);
  CHECK(f16(1e300).bits == 0x7c00);
  CHECK(f16(-1e300).bits == 0xfc00);
  CHECK(f16(1e-300).bits == 0);
  CHECK(f16(std::numeric_limits<double>::quiet_NaN()).bits == 0x7e00);
  CHECK(f16(2049).bits == f16(2048.0F).bits);
  CHECK(bf16(16842753).bits == 0x4b81);  // 2^24 + 2^16 + 1 is above a tie that float would see
}

TEST_CASE("names, sizes and traits") {
  static_assert(deepseek::dtype_of<f16> == dtype::f16);
  static_assert(deepseek::dtype_of<std::int64_t> == dtype::i64);
  static_assert(std::is_same_v<deepseek::accumulate_t<bf16>, float>);
  static_assert(std::is_same_v<deepseek::accumulate_t<double>, double>);
  static_assert(deepseek::Floating<f16> && !deepseek::Floating<int>);
  static_assert(deepseek::Element<int> && !deepseek::Element<unsigned long long>);
  static_assert(!std::is_convertible_v<float, f16> && std::is_convertible_v<f16, float>);
  static_assert(static_cast<float>(f16(0.5F)) == 0.5F, "conversions are constant expressions");
  static_assert(static_cast<float>(bf16(0.1)) == 0x1.9ap-4F);
  CHECK(deepseek::to_string(dtype::bf16) == "bf16");
  CHECK(deepseek::to_string(dtype::i64) == "i64");
  CHECK(deepseek::size_of(dtype::f16) == 2);
  CHECK(deepseek::size_of(dtype::u8) == 1);
}

TEST_CASE_TEMPLATE("limits agree with the codes", T, f16, bf16) {
  using traits = deepseek::float_traits<T>;
  CHECK(traits::largest == rounded<T>(traits::largest));
  CHECK(std::isinf(rounded<T>(traits::largest * (1 + traits::unit_roundoff))));
  CHECK(traits::smallest == meaning<T>(1));
  CHECK(traits::smallest_normal == meaning<T>(1U << format<T>::fraction));
  CHECK(traits::unit_roundoff == std::ldexp(1, -format<T>::fraction - 1));
  CHECK(traits::digits == format<T>::fraction + 1);
}
