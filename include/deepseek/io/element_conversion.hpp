// SPDX-License-Identifier: Apache-2.0
// Elements of a file as elements of another type. F64, F32, F16, BF16 and F8_E4M3 are read; to a
// wider type exactly, to a narrower one rounded to nearest, ties to even. F8_E4M3: sign, 4 bits
// exponent with bias 7, 3 bits fraction, no infinity, 0x7f is NaN. F8_E8M0, scales only: byte b is
// 2^(b - 127), 0xff NaN. Sources: IEEE 754-2019; Micikevicius et al. 2022, "FP8 Formats for Deep
// Learning"; OCP Microscaling Formats 1.0, section 5.4.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/space.hpp"
#include "deepseek/io/file_dtype.hpp"

namespace deepseek {

// Bits of significand and exponent range that a file's floating type has; none for other types.
constexpr int significand_bits(file_dtype type) {
  switch (type) {
    case file_dtype::f64:
      return 53;
    case file_dtype::f32:
      return 24;
    case file_dtype::f16:
      return 11;
    case file_dtype::bf16:
      return 8;
    case file_dtype::f8_e4m3:
      return 4;
    default:
      return 0;
  }
}

// Every value of `from` is one of T.
template <Floating T>
constexpr bool holds_exactly(file_dtype from) {
  if (std::is_same_v<T, f16>) return from == file_dtype::f16 || from == file_dtype::f8_e4m3;
  if (std::is_same_v<T, bf16>) return from == file_dtype::bf16 || from == file_dtype::f8_e4m3;
  return significand_bits(from) > 0 && significand_bits(from) <= float_traits<T>::digits;
}

namespace detail {

template <class From>
From element_at(const std::byte* bytes, std::size_t i) {
  From x;
  std::memcpy(&x, bytes + i * sizeof(From), sizeof(From));
  return x;
}

inline float decode_e4m3(unsigned code) {
  const unsigned exponent = code >> 3 & 15U, fraction = code & 7U;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
  const float size =
      exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                    : std::ldexp(static_cast<float>(8 + fraction), static_cast<int>(exponent) - 10);
  return (code & 0x80U) != 0 ? -size : size;
}

inline std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (unsigned code = 0; code < 256; ++code) values[code] = decode_e4m3(code);
  return values;
}

}  // namespace detail

// out[i] = element i of `bytes`, which holds out.size() elements of `from`, one of those above.
template <Floating T>
void convert_elements(file_dtype from, const std::byte* bytes, std::span<T> out) {
  const auto put = [&](const auto& value_at) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(value_at(i));
  };
  switch (from) {
    case file_dtype::f64:
      return put([&](std::size_t i) { return detail::element_at<double>(bytes, i); });
    case file_dtype::f32:
      return put([&](std::size_t i) { return detail::element_at<float>(bytes, i); });
    case file_dtype::f16:
      return put(
          [&](std::size_t i) { return static_cast<float>(detail::element_at<f16>(bytes, i)); });
    case file_dtype::bf16:
      return put(
          [&](std::size_t i) { return static_cast<float>(detail::element_at<bf16>(bytes, i)); });
    case file_dtype::f8_e4m3: {
      static const std::array<float, 256> values = detail::e4m3_values();
      return put([&](std::size_t i) { return values[std::to_integer<unsigned>(bytes[i])]; });
    }
    default:
      fail(error_code::dtype, "elements: ", to_string(from),
           " is not converted; F64, F32, F16, BF16 and F8_E4M3 are");
  }
}

// The scales of 8-bit blocks: F32, BF16, or F8_E8M0 powers of two.
inline void convert_scales(file_dtype from, const std::byte* bytes, std::span<float> out) {
  if (from != file_dtype::f8_e8m0) return convert_elements<float>(from, bytes, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int code = std::to_integer<int>(bytes[i]);
    out[i] = code == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, code - 127);
  }
}

}  // namespace deepseek
