// SPDX-License-Identifier: Apache-2.0
// Elements of files as floats: all 256 codes of the 8-bit types, the 16-bit ones as core reads
// them, data at any byte, narrowing by one rounding, and types that are refused.
#include "deepseek/io/element_conversion.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "support/throws.hpp"

namespace ds = deepseek;
using ds::file_dtype;

namespace {

template <class To, class From>
std::vector<To> converted(file_dtype type, const std::vector<From>& from) {
  std::vector<std::byte> bytes(1 + from.size() * sizeof(From));  // one off any alignment
  std::memcpy(bytes.data() + 1, from.data(), from.size() * sizeof(From));
  std::vector<To> to(from.size());
  ds::convert_elements<To>(type, bytes.data() + 1, to);
  return to;
}

std::vector<std::uint8_t> all_codes() {
  std::vector<std::uint8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i);
  return codes;
}

}  // namespace

TEST_CASE("F8_E4M3: every code") {
  const auto values = converted<float>(file_dtype::f8_e4m3, all_codes());
  for (int code = 0; code < 128; ++code) {
    CAPTURE(code);
    const int exponent = code / 8, fraction = code % 8;
    const double size = exponent == 0 ? fraction * std::pow(2.0, -9)
                                      : (1 + fraction / 8.0) * std::pow(2.0, exponent - 7);
    const float plus = values[static_cast<std::size_t>(code)];
    const float minus = values[static_cast<std::size_t>(code + 128)];
    if (code == 0x7f) {
      CHECK(std::isnan(plus));
      CHECK(std::isnan(minus));
    } else {
      CHECK(static_cast<double>(plus) == size);
      CHECK(static_cast<double>(minus) == -size);
      CHECK(std::signbit(minus));
    }
  }
  CHECK(values[0x38] == 1.0F);
  CHECK(values[0x7e] == 448.0F);
  CHECK(values[0x09] == 0.017578125F);
}

TEST_CASE("scales: powers of two, floats") {
  std::vector<float> scale(256);
  const auto codes = all_codes();
  ds::convert_scales(file_dtype::f8_e8m0, std::as_bytes(std::span(codes)).data(), scale);
  for (int code = 0; code < 255; ++code) {
    CHECK(static_cast<double>(scale[static_cast<std::size_t>(code)]) ==
          std::ldexp(1.0, code - 127));
  }
  CHECK(std::isnan(scale[255]));
  const std::vector<float> some{0.5F, 3.0F};
  std::vector<float> same(2);
  ds::convert_scales(file_dtype::f32, std::as_bytes(std::span(some)).data(), same);
  CHECK(same == some);
}

TEST_CASE("wider exactly, narrower with one rounding") {
  const std::vector<ds::bf16> b{ds::bf16(1.5F), ds::bf16(-3.0F)};
  CHECK(converted<float>(file_dtype::bf16, b) == std::vector<float>{1.5F, -3.0F});
  CHECK(converted<double>(file_dtype::bf16, b) == std::vector<double>{1.5, -3.0});
  const std::vector<ds::f16> h{ds::f16(0x1p-24F), ds::f16(65504.0F)};
  CHECK(converted<float>(file_dtype::f16, h) == std::vector<float>{0x1p-24F, 65504.0F});
  // Above the middle of two bf16 numbers in double, at the middle once it is a float.
  const std::vector<double> d{1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8};
  const auto n = converted<ds::bf16>(file_dtype::f64, d);
  CHECK(static_cast<float>(n[0]) == 1 + 0x1p-7F);
  CHECK(static_cast<float>(n[1]) == 1.0F);
}

TEST_CASE("which conversions lose nothing") {
  CHECK(ds::holds_exactly<float>(file_dtype::bf16));
  CHECK(ds::holds_exactly<float>(file_dtype::f16));
  CHECK(ds::holds_exactly<float>(file_dtype::f8_e4m3));
  CHECK(ds::holds_exactly<double>(file_dtype::f32));
  CHECK(ds::holds_exactly<ds::bf16>(file_dtype::bf16));
  CHECK(!ds::holds_exactly<float>(file_dtype::f64));
  CHECK(!ds::holds_exactly<ds::bf16>(file_dtype::f16));
  CHECK(!ds::holds_exactly<ds::f16>(file_dtype::bf16));
  CHECK(!ds::holds_exactly<ds::bf16>(file_dtype::f32));
  CHECK(!ds::holds_exactly<float>(file_dtype::i32));
}

TEST_CASE("other types are refused") {
  for (const auto type : {file_dtype::i8, file_dtype::f8_e5m2, file_dtype::boolean}) {
    CHECK_ERROR(ds::error_code::dtype, to_string(type).data(),
                converted<float>(type, std::vector<std::uint8_t>{0}));
  }
}
