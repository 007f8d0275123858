// SPDX-License-Identifier: Apache-2.0
// e4m3 and e8m0: all 256 codes, encoding against a search for the nearest at every boundary and on
// random floats and doubles, the golden values, saturation, NaN.
#include "deepseek/core/float8.hpp"

#include "deepseek/core/math.hpp"
#include "oracle/float8.hpp"
#include "support/seed.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace ds = deepseek;

namespace {

int code_of(float x) {
  return ds::f8_e4m3(x).bits;
}

// Constant expressions.
static_assert(ds::f8_e4m3(448.0F).bits == 0x7e && ds::f8_e4m3(-1).bits == 0xb8);
static_assert(static_cast<float>(ds::f8_e4m3::from_bits(0x7e)) == 448);
static_assert(ds::f8_e8m0(1.0F).bits == 127 && static_cast<float>(ds::f8_e8m0(3.0F)) == 4);
static_assert(ds::dtype_of<ds::f8_e4m3> == ds::dtype::f8_e4m3 &&
              ds::size_of(ds::dtype::f8_e4m3) == 1 &&
              ds::to_string(ds::dtype::f8_e8m0) == "f8_e8m0");

}  // namespace

TEST_CASE("e4m3: every code is the number of its definition and comes back") {
  for (int code = 0; code < 256; ++code) {
    const auto x = ds::f8_e4m3::from_bits(static_cast<std::uint8_t>(code));
    const float value = x;
    if (code % 128 == 127) {
      CHECK(std::isnan(value));
      CHECK(code_of(value) == code);
      continue;
    }
    CHECK(static_cast<double>(value) == oracle::e4m3_number(static_cast<std::uint8_t>(code)));
    CHECK(code_of(value) == code);
    CHECK(std::signbit(value) == (code >= 128));
  }
}

TEST_CASE("e4m3: boundaries between neighbours, ties to even, from float and double") {
  for (int code = 0; code < 0x7e; ++code) {
    const double middle = (oracle::e4m3_value(code) + oracle::e4m3_value(code + 1)) / 2;
    const auto at = static_cast<float>(middle);  // exact
    const int even = code % 2 == 0 ? code : code + 1;
    CHECK(code_of(at) == even);
    CHECK(code_of(-at) == even + 128);
    CHECK(code_of(std::nextafter(at, 0.0F)) == code);
    CHECK(code_of(std::nextafter(at, 1e9F)) == code + 1);
    CHECK(ds::f8_e4m3(std::nextafter(middle, 0.0)).bits == code);
    CHECK(ds::f8_e4m3(std::nextafter(middle, 1e9)).bits == code + 1);
  }
}

TEST_CASE("e4m3: golden values, saturation, NaN") {
  const struct {
    float x;
    int code;
  } golden[] = {{0, 0x00},        {1, 0x38},          {-1, 0xb8},     {0x1p-9F, 0x01},
                {0x1p-10F, 0x00}, {0x1.8p-10F, 0x01}, {0.017F, 0x09}, {0.3F, 0x2a},
                {1.0625F, 0x38},  {1.1875F, 0x3a},    {17, 0x58},     {240, 0x77},
                {448, 0x7e},      {460, 0x7e},        {1000, 0x7e},   {-0.1F, 0x9d}};
  for (const auto& g : golden) CHECK(code_of(g.x) == g.code);
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(code_of(infinity) == 0x7e);
  CHECK(code_of(-infinity) == 0xfe);
  CHECK(ds::f8_e4m3(1e300).bits == 0x7e);
  CHECK(code_of(-0.0F) == 0x80);
  CHECK(code_of(1e-45F) == 0);
  CHECK(code_of(std::nanf("")) == 0x7f);
  CHECK(code_of(-std::nanf("")) == 0xff);
}

TEST_CASE("e4m3: random numbers get the nearest code") {
  support::numbers from("e4m3");
  int wrong = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto x = static_cast<float>(from.normal() * std::exp2(14 * from.uniform() - 9));
    wrong += code_of(x) != oracle::e4m3_code(static_cast<double>(x));
  }
  CHECK(wrong == 0);
}

TEST_CASE("e8m0: codes, the next power of two, ends") {
  for (int code = 0; code < 255; ++code) {
    const auto x = ds::f8_e8m0::from_bits(static_cast<std::uint8_t>(code));
    const float value = x;
    CHECK(static_cast<double>(value) == std::ldexp(1.0, code - 127));
    CHECK(ds::f8_e8m0(value).bits == code);
    CHECK(ds::f8_e8m0(std::nextafter(value, 0.0F)).bits == code);
    CHECK(ds::f8_e8m0(std::nextafter(value, 3e38F)).bits == std::min(code + 1, 254));
  }
  CHECK(std::isnan(static_cast<float>(ds::f8_e8m0::from_bits(0xff))));
  CHECK(ds::f8_e8m0(std::nanf("")).bits == 0xff);
  CHECK(ds::f8_e8m0(0.0F).bits == 0);
  CHECK(ds::f8_e8m0(-1.0F).bits == 0);
  CHECK(ds::f8_e8m0(std::numeric_limits<float>::infinity()).bits == 254);
}
