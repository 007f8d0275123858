// SPDX-License-Identifier: Apache-2.0
// 8-bit floats, storage only.
// f8_e4m3 = sign, 4 bits exponent (bias 7), 3 bits fraction; no infinity, 0x7f and 0xff are NaN,
// largest 448, smallest normal 2^-6, subnormals are multiples of 2^-9. From a number: one rounding
// to nearest, ties to even (also from double); what is beyond +-448 saturates, infinities too; NaN
// stays NaN with its sign.
// f8_e8m0 = the power of two 2^(byte - 127), 0xff is NaN: a scale. From a number: the smallest
// power that is not below it, found from its bits; 2^-127 at least (also for 0), 2^127 at most. To
// float both are exact. constexpr and host-device. Sources: Micikevicius et al. 2022, "FP8 Formats
// for Deep Learning", section 3; OCP Microscaling Formats 1.0, section 5.
#pragma once

#include "deepseek/core/dtype.hpp"

namespace deepseek {

namespace detail {

DEEPSEEK_HOST_DEVICE constexpr std::uint8_t encode_e4m3(float x) {
  const auto bits = bits_as<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 24U) & 0x80U, size = bits & 0x7fffffffU;
  std::uint32_t code = 0;
  if (size > 0x7f800000U) {  // NaN
    code = 0x7fU;
  } else if (size >= 0x43e00000U) {  // 448 and above
    code = 0x7eU;
  } else if (size >= 0x3c800000U) {  // 2^-6 and above: normal; the exponent bias falls by 120
    code = shift_to_even(size - 0x3c000000U, 20U);
  } else if (size >= 0x3a800000U) {  // 2^-10 and above: a multiple of 2^-9
    code = shift_to_even((size & 0x7fffffU) | 0x800000U, 141U - (size >> 23U));
  }
  return static_cast<std::uint8_t>(sign | code);
}

DEEPSEEK_HOST_DEVICE constexpr float decode_e4m3(std::uint8_t code) {
  const std::uint32_t sign = (code & 0x80U) << 24U, size = code & 0x7fU;
  if (size == 0x7fU) return bits_as<float>(sign | 0x7fc00000U);
  if (size < 8U) {  // a multiple of 2^-9, exact in float
    return bits_as<float>(sign | bits_as<std::uint32_t>(static_cast<float>(size) * 0x1p-9F));
  }
  return bits_as<float>(sign | ((size << 20U) + 0x3c000000U));
}

DEEPSEEK_HOST_DEVICE constexpr std::uint8_t encode_e8m0(float x) {
  const auto bits = bits_as<std::uint32_t>(x);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return 0xff;
  if ((bits >> 31U) != 0 || bits <= 0x00400000U) return 0;  // up to 2^-127
  const std::uint32_t power = (bits >> 23U) + ((bits & 0x7fffffU) != 0 ? 1U : 0U);
  return static_cast<std::uint8_t>(power < 254U ? power : 254U);
}

DEEPSEEK_HOST_DEVICE constexpr float decode_e8m0(std::uint8_t code) {
  if (code == 0xff) return bits_as<float>(0x7fc00000U);
  if (code == 0) return 0x1p-127F;
  return bits_as<float>(std::uint32_t{code} << 23U);
}

}  // namespace detail

struct f8_e4m3 {
  std::uint8_t bits = 0;
  static constexpr float largest = 448;

  constexpr f8_e4m3() = default;
  template <class Number>
  requires std::is_arithmetic_v<Number> DEEPSEEK_HOST_DEVICE explicit constexpr f8_e4m3(Number x)
      : bits(detail::encode_e4m3(detail::float_for_rounding(x))) {}
  DEEPSEEK_HOST_DEVICE constexpr operator float() const { return detail::decode_e4m3(bits); }
  DEEPSEEK_HOST_DEVICE static constexpr f8_e4m3 from_bits(std::uint8_t code) {
    f8_e4m3 x;
    x.bits = code;
    return x;
  }
};

struct f8_e8m0 {
  std::uint8_t bits = 0;

  constexpr f8_e8m0() = default;
  DEEPSEEK_HOST_DEVICE explicit constexpr f8_e8m0(float x) : bits(detail::encode_e8m0(x)) {}
  DEEPSEEK_HOST_DEVICE constexpr operator float() const { return detail::decode_e8m0(bits); }
  DEEPSEEK_HOST_DEVICE static constexpr f8_e8m0 from_bits(std::uint8_t code) {
    f8_e8m0 x;
    x.bits = code;
    return x;
  }
};

static_assert(sizeof(f8_e4m3) == 1 && sizeof(f8_e8m0) == 1);
static_assert(std::is_trivially_copyable_v<f8_e4m3> && std::is_trivially_copyable_v<f8_e8m0>);

namespace detail {
template <>
struct dtype_of_type<f8_e4m3> : dtype_constant<dtype::f8_e4m3> {};
template <>
struct dtype_of_type<f8_e8m0> : dtype_constant<dtype::f8_e8m0> {};
}  // namespace detail

}  // namespace deepseek
